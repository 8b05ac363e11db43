//! Runs the schema compiler until no import is missing from what it was asked for.
//!
//! capnpc breaks on a type that is reached through a file which was not asked for, so every import is asked for too. Files are told
//! apart by where they lie on disk; each folder of schemas is both an import path and a prefix to strip (unless another contains it), or the
//! compiler would take one file for two, and put this machine's paths into its output.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use capnp::message::{self, ReaderOptions};
use capnp::schema_capnp::code_generator_request;
use capnp::serialize::{self, OwnedSegments};

use crate::error::Error;
use crate::model::Place;
use crate::names;

/// The files that any schema may import.
const EMBEDDED: [(&str, &str); 3] = [
    ("selfsame.capnp", include_str!("schemas/selfsame.capnp")),
    ("capnp/c++.capnp", include_str!("schemas/capnp/c++.capnp")),
    ("capnp/stream.capnp", include_str!("schemas/capnp/stream.capnp")),
];

/// Where the schema compiler itself looks last.
const STANDARD: [&str; 2] = ["/usr/local/include", "/usr/include"];

/// What to compile.
#[derive(Debug)]
pub(crate) struct Job {
    pub tool: PathBuf,
    /// Files and folders.
    pub inputs: Vec<PathBuf>,
    pub import_paths: Vec<PathBuf>,
    /// Folders of schemas whose code is elsewhere: (the module's path, the folder).
    pub provided: Vec<(Vec<String>, PathBuf)>,
}

/// The compiler's answer.
pub(crate) struct Compiled {
    message: message::Reader<OwnedSegments>,
    /// One for each requested file, in the same order.
    pub sources: Vec<Source>,
    /// Folders that were searched for input: a new file in one of them changes the result.
    pub folders: Vec<PathBuf>,
}

/// A schema file on disk.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    /// As errors name it.
    pub shown: String,
    pub module: Vec<String>,
    pub place: Place,
}

/// A folder below which imports are found.
struct Root {
    dir: PathBuf,
    shown: PathBuf,
    place: Place,
    /// Searched for files to compile, or the folder of one.
    is_input: bool,
}

impl Compiled {
    pub fn request(&self) -> capnp::Result<code_generator_request::Reader<'_>> {
        self.message.get_root()
    }
}

/// Compiles the inputs and all that they import.
pub(crate) fn compile(job: &Job) -> Result<Compiled, Error> {
    let embedded = embed()?;
    let (mut files, mut roots, folders) = inputs(job)?;
    for path in &job.import_paths {
        add_root(&mut roots, path, Some(Place::Here))?;
    }
    for (module, path) in &job.provided {
        add_root(&mut roots, path, Some(Place::Provided(module.clone())))?;
    }
    add_root(&mut roots, embedded.path(), Some(Place::Builtin))?;
    for path in STANDARD.map(Path::new).into_iter().filter(|path| path.is_dir()) {
        add_root(&mut roots, path, Some(Place::Here))?;
    }

    let mut sources = Vec::new();
    for file in &files {
        sources.push(source(&roots, file)?);
    }
    loop {
        let message = run(&job.tool, &roots, &files)?;
        let missing = missing(&message, &sources, &roots)?;
        if missing.is_empty() {
            return Ok(Compiled { message, sources, folders });
        }
        for file in missing {
            sources.push(source(&roots, &file)?);
            files.push(file);
        }
    }
}

fn embed() -> Result<tempfile::TempDir, Error> {
    let folder = tempfile::Builder::new()
        .prefix("selfsame-build-")
        .tempdir()
        .map_err(|error| Error::io(std::env::temp_dir(), error))?;
    for (name, text) in EMBEDDED {
        let path = folder.path().join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|error| Error::io(path, error))?;
    }
    Ok(folder)
}

type Inputs = (Vec<PathBuf>, Vec<Root>, Vec<PathBuf>);

/// The schema files, their roots, and the folders that were searched for them.
fn inputs(job: &Job) -> Result<Inputs, Error> {
    let (mut files, mut roots, mut folders) = (BTreeSet::new(), Vec::new(), Vec::new());
    for input in &job.inputs {
        let path = fs::canonicalize(input).map_err(|error| Error::io(input, error))?;
        if path.is_dir() {
            add_root(&mut roots, input, None)?;
            let before = files.len();
            walk(&path, &mut files)?;
            if files.len() == before {
                let why = "no file in this folder ends in .capnp".to_owned();
                return Err(Error::Input { path: input.clone(), why });
            }
            folders.push(input.clone());
        } else {
            let parent =
                input.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            add_root(&mut roots, parent, None)?;
            files.insert(path);
        }
    }
    if files.is_empty() {
        return Err(Error::Input { path: PathBuf::new(), why: "no schema was given to compile".to_owned() });
    }
    Ok((files.into_iter().collect(), roots, folders))
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        // A link is followed to a file, never to a folder: it could lead around in a circle.
        let is_link = path.is_symlink();
        if path.is_dir() && !is_link {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "capnp") && path.is_file() {
            files.insert(fs::canonicalize(&path).map_err(|error| Error::io(path, error))?);
        }
    }
    Ok(())
}

fn add_root(roots: &mut Vec<Root>, shown: &Path, place: Option<Place>) -> Result<(), Error> {
    let dir = fs::canonicalize(shown).map_err(|error| Error::io(shown, error))?;
    if !roots.iter().any(|root| root.dir == dir) {
        let is_input = place.is_none();
        roots.push(Root { dir, shown: shown.to_owned(), place: place.unwrap_or(Place::Here), is_input });
    }
    Ok(())
}

/// What is to be known of a file. A folder that another crate provides claims its files. Otherwise the outermost of the input's folders
/// that contain a file gives it its module, then the outermost import path: the order in which they were named does not matter.
fn source(roots: &[Root], path: &Path) -> Result<Source, Error> {
    let is_provided = |root: &Root| matches!(root.place, Place::Provided(_));
    let root = roots
        .iter()
        .filter(|root| path.starts_with(&root.dir))
        .min_by_key(|root| (!is_provided(root), !root.is_input, root.dir.components().count()));
    let Some((root, inside)) = root.and_then(|root| Some((root, path.strip_prefix(&root.dir).ok()?))) else {
        let why =
            "it is imported, but lies in no folder of schemas; name its folder with Config::import_path";
        return Err(Error::Input { path: path.to_owned(), why: why.to_owned() });
    };
    let module = inside
        .with_extension("")
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(names::file_module(&name.to_string_lossy())),
            _ => None,
        })
        .collect();
    // The folder of what is embedded is gone when somebody reads the error.
    let shown = if root.place == Place::Builtin { inside.to_owned() } else { root.shown.join(inside) };
    Ok(Source {
        path: path.to_owned(),
        shown: shown.to_string_lossy().into_owned(),
        module,
        place: root.place.clone(),
    })
}

fn run(tool: &Path, roots: &[Root], files: &[PathBuf]) -> Result<message::Reader<OwnedSegments>, Error> {
    let mut command = Command::new(tool);
    // Otherwise the compiler warns when PWD is not its working folder.
    command.env_remove("PWD").args(["compile", "-o-"]);
    for root in roots {
        command.arg(option("--import-path=", &root.dir));
        // Within another root it would keep `..` from leading there.
        if !roots.iter().any(|other| other.dir != root.dir && root.dir.starts_with(&other.dir)) {
            command.arg(option("--src-prefix=", &root.dir));
        }
    }
    let output = command.args(files).output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::CompilerMissing { tool: tool.to_owned() },
        _ => Error::Compiler { tool: tool.to_owned(), words: error.to_string() },
    })?;
    if !output.status.success() {
        let mut words = String::from_utf8_lossy(&output.stderr).into_owned();
        if words.contains("can't use \"..\"") {
            words =
                "an import leads by `..` out of the folders that are compiled; name the folder above with \
                     Config::import_path, or compile that folder"
                    .to_owned();
        }
        return Err(Error::Compiler { tool: tool.to_owned(), words });
    }
    // The request comes from a tool that the user trusts to read the schemas, and may be as large as these are.
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    serialize::read_message(&output.stdout[..], options).map_err(|error| Error::Compiler {
        tool: tool.to_owned(),
        words: format!("its output is no request: {error}"),
    })
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(path);
    option
}

/// The imports that were not asked for yet.
fn missing(
    message: &message::Reader<OwnedSegments>,
    sources: &[Source],
    roots: &[Root],
) -> Result<Vec<PathBuf>, Error> {
    let undecodable = |error: capnp::Error| Error::Defect { files: shown(sources), why: error.to_string() };
    let request: code_generator_request::Reader<'_> = message.get_root().map_err(undecodable)?;
    let requested = request.get_requested_files().map_err(undecodable)?;
    let known: BTreeSet<u64> = requested.iter().map(|file| file.get_id()).collect();
    let mut found = Vec::new();
    for (file, source) in requested.iter().zip(sources) {
        for import in file.get_imports().map_err(undecodable)? {
            if known.contains(&import.get_id()) {
                continue;
            }
            let name = import.get_name().and_then(|name| Ok(name.to_string()?)).map_err(undecodable)?;
            let Some(path) = locate(&name, source, roots) else {
                let why = format!(
                    "its import \"{name}\" was not found on disk; name its folder with Config::import_path"
                );
                return Err(Error::Input { path: PathBuf::from(&source.shown), why });
            };
            if !found.contains(&path) && !sources.iter().any(|source| source.path == path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Finds an import as the schema compiler does.
fn locate(name: &str, from: &Source, roots: &[Root]) -> Option<PathBuf> {
    let found = match name.strip_prefix('/') {
        Some(name) => roots.iter().map(|root| root.dir.join(name)).find(|path| path.is_file())?,
        None => from.path.parent()?.join(name),
    };
    fs::canonicalize(found).ok()
}

/// The files, for an error that concerns them all.
pub(crate) fn shown(sources: &[Source]) -> String {
    sources.iter().map(|source| source.shown.as_str()).collect::<Vec<_>>().join(", ")
}
