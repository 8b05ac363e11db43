fn main() -> Result<(), selfsame_build::Error> {
    selfsame_build::compile("schemas")
}
