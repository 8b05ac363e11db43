//! Generates the contract of the chaos run.

fn main() -> Result<(), selfsame_build::Error> {
    selfsame_build::compile("schema")
}
