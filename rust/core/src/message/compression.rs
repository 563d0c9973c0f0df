//! Stub.
/// Stub.
pub struct Compression;
