//! The process's dice: the operating system's, so that what must never repeat does not repeat in a copied process either.

use std::cell::Cell;

pub(crate) fn u64() -> u64 {
    getrandom::u64().expect("the operating system has random numbers")
}

/// For the ids of spans and traces, of which every call needs some: unique as far as chance goes, and cheap. Nothing that must not be guessed, or
/// must not repeat in a copied process.
pub(crate) fn id() -> u64 {
    thread_local! {
        static NEXT: Cell<(u64, u64)> = Cell::new((u64(), u64()));
    }
    NEXT.with(|next| {
        let (seed, count) = next.get();
        next.set((seed, count.wrapping_add(1)));
        xxhash_rust::xxh3::xxh3_64_with_seed(&count.to_le_bytes(), seed).max(1)
    })
}

pub(crate) fn u128() -> u128 {
    u128::from(u64()) << 64 | u128::from(u64())
}
