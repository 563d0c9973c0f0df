//! Stub.

/// `utf-8` or `binary`.
pub fn natural_encoding(content_type: &str) -> &'static str {
    match content_type {
        "application/json" | "application/x-yaml" | "text/plain" => "utf-8",
        _ => "binary",
    }
}
/// Stub.
pub struct Embed;
