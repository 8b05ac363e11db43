//! What the benches share: their contracts, which are the examples', and the question whether to measure. The benches themselves are in `benches/`.

/// The contracts of the examples.
#[path = "../../../examples/contracts/mod.rs"]
pub mod api;

/// Whether a bench is only to show that it runs, as criterion decides it: `cargo test` and `cargo bench -- --test` want to know no more.
pub fn trial() -> bool {
    let said = |word: &str| std::env::args().any(|argument| argument == word);
    !said("--bench") || said("--test")
}
