//! Generates the contract of selfsame, the schema of capnp-rpc, and the service of tonic. The last is made by hand, so no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    selfsame_build::compile("schema")?;
    println!("cargo::rerun-if-changed=plain/plain.capnp");
    capnpc::CompilerCommand::new().src_prefix("plain").file("plain/plain.capnp").run()?;
    let carry = tonic_build::manual::Method::builder()
        .name("carry")
        .route_name("Carry")
        .input_type("crate::peers::tonic::Carried")
        .output_type("crate::peers::tonic::Carried")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let echo = tonic_build::manual::Service::builder().name("Echo").package("peer").method(carry).build();
    tonic_build::manual::Builder::new().compile(&[echo]);
    Ok(())
}
