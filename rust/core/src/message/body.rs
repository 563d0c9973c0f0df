//! Stub.
/// Stub.
pub struct Embed;
/// Stub.
pub struct Signatures;
