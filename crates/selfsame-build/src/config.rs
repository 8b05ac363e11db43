//! What may be set, and the way from schemas to a file.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::check::check;
use crate::error::Error;
use crate::model::read::read;
use crate::names::Names;
use crate::normalise::normalise;
use crate::output;
use crate::print::{messages::Messages, print};
use crate::request::{self, Compiled, Job};

/// Compiles contracts that [`compile`](crate::compile) does not suffice for.
///
/// ```no_run
/// # fn main() -> Result<(), selfsame_build::Error> {
/// selfsame_build::Config::new()
///     .import_path("../schemas")
///     .provided_by("contracts::api", "../contracts/schemas")
///     .checked_in("src/api")
///     .compile(["schemas"])
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is compiled before `compile` is called"]
pub struct Config {
    tool: PathBuf,
    import_paths: Vec<PathBuf>,
    provided: Vec<(Vec<String>, PathBuf)>,
    out_dir: Option<PathBuf>,
    checked_in: Option<PathBuf>,
    check: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// The defaults: `capnp` from `PATH`, output to `$OUT_DIR`, check if the variable `SELFSAME_CHECK` is `1`.
    pub fn new() -> Self {
        Config {
            tool: PathBuf::from("capnp"),
            import_paths: Vec::new(),
            provided: Vec::new(),
            out_dir: None,
            checked_in: None,
            check: env::var("SELFSAME_CHECK").is_ok_and(|value| value == "1"),
        }
    }

    /// The schema compiler to run. Default: `capnp`, found on `PATH`.
    pub fn capnp(mut self, tool: impl Into<PathBuf>) -> Self {
        self.tool = tool.into();
        self
    }

    /// A folder below which imports that begin with `/` are found, besides the folders that are compiled. What is imported is generated too.
    pub fn import_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.import_paths.push(folder.into());
        self
    }

    /// The schemas below a folder are another crate's, which has generated their code already: in its module `module`, as in
    /// `"contracts::api"`. The folder is an import path as well.
    ///
    /// So services can share a crate of contracts, and an interface can extend one of another crate. Both crates have to be built by
    /// releases of `selfsame-build` of one minor version.
    pub fn provided_by(mut self, module: impl AsRef<str>, folder: impl Into<PathBuf>) -> Self {
        let module =
            module.as_ref().trim_start_matches("::").split("::").map(|name| name.trim().replace('-', "_"));
        self.provided.push((module.collect(), folder.into()));
        self
    }

    /// Where `selfsame_contracts.rs` is written. Default: `$OUT_DIR`.
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Writes the code to `mod.rs` in a folder of the source tree instead, to be committed and used by `mod api;`. It is written only when it
    /// changed.
    ///
    /// The committed file is used as it is, neither written nor checked, where the schema compiler is missing (docs.rs, somebody who only builds
    /// the crate), and in a package that Cargo has unpacked (out of a registry, vendored, or out of another's repository).
    pub fn checked_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.checked_in = Some(folder.into());
        self
    }

    /// Writes nothing, but fails if the file that [`checked_in`](Config::checked_in) names is not what the contracts generate, or if the
    /// schema compiler is missing. For CI; setting `SELFSAME_CHECK=1` does the same.
    pub fn check(mut self) -> Self {
        self.check = true;
        self
    }

    /// Compiles schema files, or folders of them.
    ///
    /// In a `build.rs`, Cargo is told to run it again when one of them changes, or when one is added to a folder.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn compile(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<(), Error> {
        let target = self.target()?;
        let job = Job {
            tool: self.tool.clone(),
            inputs: paths.into_iter().map(|path| path.as_ref().to_owned()).collect(),
            import_paths: self.import_paths.clone(),
            provided: self.provided.clone(),
        };
        let cargo = Cargo::from_env();
        cargo.rerun_if_env_changed("SELFSAME_CHECK");
        job.inputs.iter().for_each(|path| cargo.rerun_if_changed(path));
        if self.checked_in.is_some() && output::is_unpacked(&target) {
            return output::present(&target);
        }
        let compiled = match request::compile(&job) {
            Ok(compiled) => compiled,
            Err(Error::CompilerMissing { .. })
                if self.checked_in.is_some() && !self.check && target.is_file() =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        compiled.folders.iter().for_each(|folder| cargo.rerun_if_changed(folder));
        compiled
            .sources
            .iter()
            .filter(|source| source.path.is_file())
            .for_each(|source| cargo.rerun_if_changed(&source.path));

        let text = generate(&compiled)?;
        if self.checked_in.is_some() {
            cargo.rerun_if_changed(&target);
            if self.check {
                return output::check(&target, &text);
            }
        }
        output::write(&target, &text)
    }

    fn target(&self) -> Result<PathBuf, Error> {
        if let Some(folder) = &self.checked_in {
            return Ok(folder.join("mod.rs"));
        }
        let folder = match &self.out_dir {
            Some(folder) => folder.clone(),
            None => env::var_os("OUT_DIR").map(PathBuf::from).ok_or(Error::NoOutDir)?,
        };
        Ok(folder.join("selfsame_contracts.rs"))
    }
}

/// From the compiler's answer to Rust. Whatever panics on the way, capnpc or we, becomes an error that names the files.
fn generate(compiled: &Compiled) -> Result<String, Error> {
    let defect = |why: String| Error::Defect { files: request::shown(&compiled.sources), why };
    catch_unwind(AssertUnwindSafe(|| {
        let model = read(compiled).map_err(|error| defect(error.to_string()))?;
        let names = Names::new(&model);
        let refusals = check(&model, &names);
        if !refusals.is_empty() {
            return Err(Error::Refused(refusals));
        }
        let normalised = compiled.request().and_then(|request| normalise(request, &model, &names));
        let messages = normalised.and_then(|normalised| Messages::print(&normalised));
        Ok(print(&model, &names, &messages.map_err(|error| defect(error.to_string()))?))
    }))
    .unwrap_or_else(|panic| {
        let why = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(defect(format!("panic: {}", why.unwrap_or("without a message"))))
    })
}

/// What is said to Cargo; nothing outside of a build script.
struct Cargo(bool);

impl Cargo {
    fn from_env() -> Self {
        Cargo(env::var_os("OUT_DIR").is_some())
    }

    fn rerun_if_changed(&self, path: &Path) {
        if self.0 {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }

    fn rerun_if_env_changed(&self, name: &str) {
        if self.0 {
            println!("cargo:rerun-if-env-changed={name}");
        }
    }
}
