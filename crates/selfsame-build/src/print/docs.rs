//! Doc comments, carried over from the schema.
//!
//! What people write into schemas is not written for rustdoc. An indented line, or a fence that names no language, would be compiled as
//! a doc test of the user's crate; so neither is left as it is.

/// The comment's lines, each behind `sign` (`///` or `//!`).
pub(super) fn comment(text: &str, sign: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fence: Option<String> = None;
    for line in text.trim_end().lines() {
        // A carriage return within a doc comment is an error.
        let line = line.replace('\r', " ");
        let line = line.trim_end();
        let bare = line.trim_start();
        if let Some(open) = &fence {
            lines.push(line.to_owned());
            if bare.starts_with(open.as_str()) && bare.chars().all(|c| open.starts_with(c)) {
                fence = None;
            }
            continue;
        }
        let marks = ["```", "~~~"].into_iter().find(|mark| bare.starts_with(mark));
        if let Some(mark) = marks {
            let length = bare.chars().take_while(|&c| mark.starts_with(c)).count();
            let language = match bare[length..].trim() {
                "" | "rust" => "text",
                // An attribute of rustdoc's (`ignore`, `no_run`) would make it Rust as well.
                other if other.chars().all(|c| c.is_ascii_alphanumeric()) && !RUSTDOC.contains(&other) => {
                    other
                }
                _ => "text",
            };
            fence = Some(bare[..length].to_owned());
            lines.push(format!("{}{language}", &bare[..length]));
        } else {
            let depth = (line.len() - bare.len()).min(3);
            lines.push(format!("{}{bare}", " ".repeat(depth)));
        }
    }
    if let Some(open) = fence {
        lines.push(open);
    }
    lines.into_iter().map(|line| format!("{sign} {line}").trim_end().to_owned()).collect()
}

/// Words behind a fence that make rustdoc compile what it holds.
const RUSTDOC: [&str; 5] = ["ignore", "should_panic", "no_run", "compile_fail", "edition2024"];

#[cfg(test)]
mod tests {
    use super::comment;

    #[test]
    fn lines_are_carried_over() {
        assert_eq!(comment("One.\n\n  Two.\n", "///"), ["/// One.", "///", "///   Two."]);
        assert!(comment("", "///").is_empty());
    }

    #[test]
    fn nothing_becomes_a_doc_test() {
        assert_eq!(comment("    let x = 1;", "///"), ["///    let x = 1;"]);
        assert_eq!(comment("\tlet x = 1;", "///"), ["///  let x = 1;"]);
        assert_eq!(comment("```\nlet x\n```", "///"), ["/// ```text", "/// let x", "/// ```"]);
        assert_eq!(
            comment("~~~~rust\nlet x\n~~~\n~~~~", "///"),
            ["/// ~~~~text", "/// let x", "/// ~~~", "/// ~~~~"]
        );
        assert_eq!(comment("``` no_run\nx", "//!"), ["//! ```text", "//! x", "//! ```"]);
        assert_eq!(comment("```json\n{}\n```", "///")[0], "/// ```json");
    }
}
