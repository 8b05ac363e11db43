//! The process's dice: the operating system's, so that what must never repeat does not repeat in a copied process either.

pub(crate) fn u64() -> u64 {
    getrandom::u64().expect("the operating system has random numbers")
}

pub(crate) fn u128() -> u128 {
    u128::from(u64()) << 64 | u128::from(u64())
}
