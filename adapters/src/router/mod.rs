//! The server framework.

#[cfg(feature = "files")]
mod files;
#[cfg(feature = "files")]
pub use files::StaticFileHandler;
