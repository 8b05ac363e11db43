//! Runs no generator: the generated code of `schemas/` is committed (`cargo run -p selfsame-build --example regenerate` renews it). It only says at once
//! what a long list of errors would say otherwise.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY")
        .is_ok_and(|family| !family.split(',').any(|name| name == "unix"))
    {
        println!(
            "cargo::error=selfsame needs Unix sockets between its gate and its ZeroMQ sockets; this target has none"
        );
    }
}
