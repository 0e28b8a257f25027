//! Tables of what was measured: `cargo run -p benches --bin table -- first second third`.
//!
//! Takes the names that runs were saved under (`cargo bench -- --save-baseline first`). A number is
//! nanoseconds, the median of the runs, each of which counts by its own median. Behind it is how many
//! times ours it is.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

/// Whose column comes first.
const OURS: &str = "wsforge";

/// The nanoseconds of each run, by row and column.
type Table = BTreeMap<(u64, String), Vec<f64>>;

fn main() -> Result<(), Box<dyn Error>> {
    let runs: Vec<String> = env::args().skip(1).collect();
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let mut tables = BTreeMap::<String, Table>::new();
    for group in children(&target.join("criterion"))? {
        for column in children(&group)? {
            for row in children(&column)? {
                for run in runs.iter().map(|run| row.join(run)).filter(|run| run.is_dir()) {
                    let id = json(&run.join("benchmark.json"))?;
                    let name = |key: &str| id[key].as_str().unwrap_or_default().to_owned();
                    let cell = (name("value_str").parse()?, name("function_id"));
                    let median =
                        json(&run.join("estimates.json"))?["median"]["point_estimate"].as_f64();
                    let table = tables.entry(name("group_id")).or_default();
                    table.entry(cell).or_default().push(median.ok_or("no median")?);
                }
            }
        }
    }
    for (heading, table) in tables {
        print(&heading, table);
    }
    Ok(())
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let paths = fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

fn json(file: &Path) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn print(heading: &str, table: Table) {
    let medians: BTreeMap<_, f64> = table
        .into_iter()
        .map(|(cell, mut runs)| {
            runs.sort_by(f64::total_cmp);
            (cell, runs[runs.len() / 2])
        })
        .collect();
    let rows: BTreeSet<u64> = medians.keys().map(|(row, _)| *row).collect();
    let mut columns: Vec<&String> = medians.keys().map(|(_, column)| column).collect();
    columns.sort_by_key(|column| (*column != OURS, !column.starts_with(OURS), *column));
    columns.dedup();

    println!(
        "| {heading} | {} |",
        columns.iter().map(|column| &***column).collect::<Vec<_>>().join(" | ")
    );
    println!("|--:|{}", "--:|".repeat(columns.len()));
    for row in rows {
        let at = |column: &str| medians.get(&(row, column.to_owned())).copied();
        let cells = columns.iter().map(|column| match (at(column), at(OURS)) {
            (Some(ns), Some(ours)) if *column != OURS => {
                format!("{} ({:.2})", digits(ns), ns / ours)
            }
            (Some(ns), _) => digits(ns),
            (None, _) => String::new(),
        });
        println!("| {row} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    println!();
}

/// Three digits, or all those before the point.
fn digits(ns: f64) -> String {
    match ns {
        ..10.0 => format!("{ns:.2}"),
        ..100.0 => format!("{ns:.1}"),
        _ => format!("{ns:.0}"),
    }
}
