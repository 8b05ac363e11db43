//! What the fuzz targets share. Not in the workspace: cargo-fuzz needs a nightly compiler, `cargo check` here does not.

use bytes::Bytes;

/// A message of a header and one frame of bodies. The first byte says where the header ends, in words, so that a fuzzer can move the
/// border.
pub fn frames(input: &[u8]) -> Vec<Bytes> {
    let Some((words, rest)) = input.split_first() else { return Vec::new() };
    let (header, bodies) = rest.split_at(rest.len().min(usize::from(*words) * 8));
    vec![Bytes::copy_from_slice(header), Bytes::copy_from_slice(bodies)]
}
