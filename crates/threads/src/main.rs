//! `selfsame-threads`: plays the models, or with `--planted-bugs` shows that each can fail.

use std::process::ExitCode;

use selfsame_threads::campaign;

const USAGE: &str = "usage: selfsame-threads [--schedules N] [--seed N] [--planted-bugs]";

fn main() -> ExitCode {
    let Some((schedules, seed, planted)) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let hold =
        if planted { campaign::plant_all(schedules, seed) } else { campaign::play_all(schedules, seed) };
    if hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Option<(usize, u64, bool)> {
    let (mut schedules, mut seed, mut planted) = (20_000, 1, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--schedules" => schedules = arguments.next()?.parse().ok()?,
            "--seed" => seed = arguments.next()?.parse().ok()?,
            "--planted-bugs" => planted = true,
            _ => return None,
        }
    }
    Some((schedules, seed, planted))
}
