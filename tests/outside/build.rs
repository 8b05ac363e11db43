fn main() -> Result<(), selfsame_build::Error> {
    selfsame_build::Config::new().provided_by("house-contracts::api", "contracts/schemas").compile(["schemas"])
}
