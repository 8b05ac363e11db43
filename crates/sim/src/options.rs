//! What the command line says.

use selfsame::protocol::Level;

/// What to do, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Threads that play seeds. Each run has one.
    pub threads: usize,
    /// Only this level of store.
    pub level: Option<Level>,
    /// Print everything that happens.
    pub trace: bool,
    /// Plant every bug and see whether it is found.
    pub planted_bugs: bool,
    /// Only this bug.
    pub bug: Option<String>,
    /// Fail unless everything was reached that should be.
    pub coverage: bool,
}

/// How it is called.
pub const USAGE: &str = "\
usage: selfsame-sim [--seeds N] [--from N] [--threads N] [--level memory|durable|shared|atomic] [--coverage]
       selfsame-sim --seed N [--trace] [--level L] [--bug NAME]
       selfsame-sim --planted-bugs [--seeds N] [--bug NAME]

--seeds         how many runs; 1000 unless told, of each planted bug 1500
--from          the first seed; 0 unless told
--threads       runs at once; 2 unless told
--level         only this store; drawn from the seed unless told
--coverage      print what was reached, and fail if something was not
--seed          one run, the same whenever it is played
--trace         print everything that happens in it
--planted-bugs  break each rule in turn, and fail if that is not found
--bug           only this one";

/// Reads them.
///
/// # Errors
/// What is wrong with them.
pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        from: 0,
        seeds: 0,
        threads: 2,
        level: None,
        trace: false,
        planted_bugs: false,
        bug: None,
        coverage: false,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => options.seeds = number(&argument, &value()?)?,
            "--from" => options.from = number(&argument, &value()?)?,
            "--threads" => options.threads = number(&argument, &value()?)?.clamp(1, 64) as usize,
            "--seed" => (options.from, options.seeds) = (number(&argument, &value()?)?, 1),
            "--level" => options.level = Some(level(&value()?)?),
            "--bug" => options.bug = Some(value()?),
            "--trace" => options.trace = true,
            "--planted-bugs" => options.planted_bugs = true,
            "--coverage" => options.coverage = true,
            _ => return Err(format!("{argument}: no such option\n{USAGE}")),
        }
    }
    if options.seeds == 0 {
        options.seeds = if options.planted_bugs { 1500 } else { 1000 };
    }
    if options.trace && options.seeds != 1 {
        return Err("--trace shows one run: name it with --seed".into());
    }
    Ok(options)
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name} needs a number, not {text:?}"))
}

fn level(text: &str) -> Result<Level, String> {
    match text {
        "memory" => Ok(Level::Memory),
        "durable" => Ok(Level::Durable),
        "shared" => Ok(Level::Shared),
        "atomic" => Ok(Level::Atomic),
        _ => Err(format!("{text:?} is no level: memory, durable, shared or atomic")),
    }
}
