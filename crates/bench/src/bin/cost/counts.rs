//! What callgrind counted, out of the file that it writes.

use std::collections::HashMap;

/// Of a run, or of one time of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    pub instructions: f64,
    pub allocations: f64,
}

/// The C library's functions that give memory; what is given anew counts as well.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

impl Counts {
    /// The format: `summary: N` has the instructions; `cfn=(id) name`, the name only the first time, is the function that the next line `calls=N …` calls.
    pub fn read(file: &str) -> Result<Counts, String> {
        let mut names = HashMap::new();
        let (mut instructions, mut allocations, mut allocates) = (None, 0.0, false);
        for line in file.lines() {
            if let Some(total) = line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")) {
                instructions = total.trim().parse().ok();
            } else if let Some(function) = line.strip_prefix("fn=") {
                learn(&mut names, function);
            } else if let Some(function) = line.strip_prefix("cfn=") {
                let id = learn(&mut names, function);
                allocates = names.get(id).is_some_and(|name| ALLOCATORS.contains(name));
            } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| allocates) {
                let count = calls.split(' ').next().and_then(|count| count.parse::<f64>().ok());
                allocations += count.ok_or("a line of calls without a number")?;
            }
        }
        let instructions = instructions.ok_or("callgrind's file has no total")?;
        Ok(Counts { instructions, allocations })
    }
}

/// Notes the name, if there is one, and returns the id.
fn learn<'f>(names: &mut HashMap<&'f str, &'f str>, function: &'f str) -> &'f str {
    match function.split_once(' ') {
        Some((id, name)) => {
            names.insert(id, name);
            id
        }
        None => function,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_the_total_and_allocations_all_calls_of_the_allocators() {
        let file = "\
summary: 900
fn=(1) main
16 3
cfn=(2) malloc
calls=5 0
17 100
cfn=(3) free
calls=5 0
18 100
fn=(4) other
cfn=(2)
calls=2 0
3 40
";
        assert_eq!(Counts::read(file), Ok(Counts { instructions: 900.0, allocations: 7.0 }));
        assert!(Counts::read("fn=(1) main\n").is_err());
    }
}
