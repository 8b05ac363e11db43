//! What a peer may ask of this side's memory with one message.

/// The bounds of one message. Both ends hold to them: the encoder does not build what the decoder would refuse.
///
/// What a message costs its receiver besides its frames: at most their bytes once more (the aligned copy), a quarter of a KiB an
/// entry (a quarter of a MiB with the defaults), and six times the header for the lists in it (1.5 MiB). So a stranger gets little for his bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest header frame, in bytes. Default 256 KiB: a message is flushed at 16 KiB, and one entry may need more, such as the
    /// welcome to a client of many differing contracts (16 bytes a member) or the numbers of some thousand topics. One entry
    /// may use half of it. A longer header is refused before it is looked at.
    pub header: u32,
    /// The longest body, in bytes. Default 16 MiB: ample for a parameter struct, and a hundred of them in flight still fit a small
    /// machine; more belongs in several calls. A longer body is answered `tooLarge`.
    pub body: u32,
    /// The most entries of a message. Default 1,024: four times what fits the 16 KiB at which a message is flushed, so this binds only
    /// those who send nothing but entries without content. They are a millisecond's work for whoever gets them.
    pub entries: usize,
    /// The most frames of a message, the header included. Default 1,025: a client in another language may give each
    /// entry a frame of its own.
    pub frames: usize,
    /// The most bytes of a call's metadata, names and values together. Default 8 KiB, the usual bound of HTTP headers: they
    /// are copied with every attempt.
    pub metadata_bytes: usize,
    /// The most names of a call's metadata. Default 64.
    pub metadata_count: usize,
    /// The longest text for people (a failure's, a refusal's, a goodbye's), in bytes. Default 4 KiB: room for a chain of causes. Longer ones
    /// are cut when they are encoded, since an answer must not fail for its wording.
    pub text: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header: 256 * 1024,
            body: 16 * 1024 * 1024,
            entries: 1024,
            frames: 1025,
            metadata_bytes: 8 * 1024,
            metadata_count: 64,
            text: 4 * 1024,
        }
    }
}
