//! What the fuzz targets share. Not in the workspace: cargo-fuzz needs a nightly compiler, `cargo check` here does not.

use bytes::Bytes;

/// A message of a header and one frame of bodies. The first byte says where the header ends, in words, so that a fuzzer can move the
/// border.
pub fn frames(input: &[u8]) -> Vec<Bytes> {
    let Some((words, rest)) = input.split_first() else { return Vec::new() };
    let (header, bodies) = rest.split_at(rest.len().min(usize::from(*words) * 8));
    vec![Bytes::copy_from_slice(header), Bytes::copy_from_slice(bodies)]
}

/// Bytes in pieces, as a socket might hand them out. The first input byte says how long the pieces are; 0: one piece.
pub fn pieces(input: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let Some((length, bytes)) = input.split_first() else { return (Vec::new(), &[]) };
    let whole = bytes.len().max(1);
    let pieces = bytes.chunks(if *length == 0 { whole } else { usize::from(*length).min(whole) });
    (pieces.collect(), bytes)
}
