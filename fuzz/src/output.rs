use bytes::Bytes;
use wsforge_core::Output;

use crate::Source;

/// An output behaves like one `Vec` of bytes.
pub fn output(data: &[u8]) {
    let mut source = Source::new(data);
    let (mut output, mut model) = (Output::new(), Vec::new());
    while !source.is_empty() {
        let op = source.u8();
        // Lengths around `COPY_LIMIT`, and around the capacity that is kept.
        let len = usize::from(source.u16()) >> (op >> 4);
        match op % 8 {
            0 | 1 => {
                let bytes = pattern(len, model.len());
                output.put(&bytes);
                model.extend(bytes);
            }
            2 | 3 => {
                let bytes = pattern(len, model.len());
                model.extend(&bytes);
                output.put_shared(Bytes::from(bytes));
            }
            4 | 5 => {
                output.advance(len);
                model.drain(..len.min(model.len()));
            }
            6 => {
                let unsent = output.take_unsent();
                assert!(output.is_empty() && output.slices().next().is_none());
                output = unsent;
            }
            _ => {
                let mut budget = len;
                let done = output.write_to(|slices| {
                    let all = slices.iter().map(|slice| &**slice).collect::<Vec<_>>().concat();
                    assert!(slices.iter().all(|slice| !slice.is_empty()) && !all.is_empty());
                    let n = all.len().min(budget);
                    if n == 0 {
                        return Err(std::io::ErrorKind::WouldBlock.into());
                    }
                    budget -= n;
                    assert_eq!(all[..n], model[..n]);
                    model.drain(..n);
                    Ok(n)
                });
                assert_eq!(done.ok(), Some(model.is_empty()));
            }
        }
        assert_eq!((output.len(), output.is_empty()), (model.len(), model.is_empty()));
        assert!(output.slices().all(|slice| !slice.is_empty()));
        let rest = output.slices().fold(&model[..], |rest, slice| {
            rest.strip_prefix(slice).expect("the bytes of the model")
        });
        assert!(rest.is_empty());
        if model.len() > 1 << 18 {
            output.advance(usize::MAX);
            model.clear();
        }
    }
}

/// Bytes that tell where they belong. Copied in blocks, as the fuzzer counts every turn of a loop.
fn pattern(len: usize, salt: usize) -> Vec<u8> {
    let block: [u8; 251] = std::array::from_fn(|at| (at ^ salt) as u8);
    let mut bytes = block.repeat(len.div_ceil(block.len()));
    bytes.truncate(len);
    bytes
}
