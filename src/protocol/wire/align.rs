//! Cap'n Proto reads at addresses that are multiples of 8, and frames arrive wherever the socket's read buffer had room.

use bytes::Bytes;

/// The same bytes at an address that is a multiple of 8; copied, once, only if they are not at one.
pub fn aligned(bytes: Bytes) -> Bytes {
    if bytes.as_ptr().addr().is_multiple_of(8) { bytes } else { copied(&bytes) }
}

/// A copy of its own, at an address that is a multiple of 8.
pub(crate) fn copied(bytes: &[u8]) -> Bytes {
    // A vector of bytes may begin anywhere (it does not, with the usual allocators): room to move by up to 7.
    let mut copy: Vec<u8> = Vec::with_capacity(bytes.len() + 7);
    let pad = copy.as_ptr().addr().wrapping_neg() % 8;
    copy.resize(pad, 0);
    copy.extend_from_slice(bytes);
    Bytes::from(copy).slice(pad..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_at_any_address_come_out_aligned_and_unchanged() {
        let at = Bytes::from_owner((0..64).collect::<Vec<u8>>());
        for start in 0..16 {
            let bytes = at.slice(start..start + 40);
            let out = aligned(bytes.clone());
            assert_eq!(out, bytes);
            assert_eq!(out.as_ptr().addr() % 8, 0);
            let was_aligned = bytes.as_ptr().addr().is_multiple_of(8);
            assert_eq!(was_aligned, out.as_ptr() == bytes.as_ptr(), "copied if, and only if, it must be");
        }
        assert!(aligned(Bytes::new()).is_empty());
    }
}
