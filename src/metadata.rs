//! Names and values that travel with a call, beside its parameters.

use bytes::Bytes;

/// Names and values of a call. At most 64 of them, 8 KiB in all, those of its channel included; more is refused as misuse before it is sent.
///
/// They come from whoever calls, and are not part of a call's identity: a retry, or the same nonce with other metadata, is the same call, and is answered from
/// its record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(pub(crate) Vec<(String, Bytes)>);

impl Metadata {
    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl AsRef<[u8]>) {
        self.0.push((name.into(), Bytes::copy_from_slice(value.as_ref())));
    }

    /// Puts those in front whose names are not here.
    pub(crate) fn fill_in(&mut self, defaults: &Metadata) {
        let missing = defaults.0.iter().filter(|(name, _)| self.get(name).is_none());
        let missing: Vec<_> = missing.cloned().collect();
        self.0.splice(..0, missing);
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..])
    }

    /// The first value of that name, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// All names and values, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), &value[..]))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
