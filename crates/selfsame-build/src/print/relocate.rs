//! Replaces paths from the made-up root by paths from where they stand: up to the module that both ways share, then down.
//!
//! To know where it stands, it follows the text's braces and modules. It knows as much of Rust as generated code uses: strings, line
//! comments and block comments, in which neither a brace nor a path counts.

use crate::normalise::ROOT;

/// The text, with relative paths.
pub(super) fn relocate(lines: &[String]) -> String {
    let mut relocator = Relocator { out: String::new(), open: Vec::new(), in_string: false };
    for line in lines {
        relocator.line(line);
        relocator.out.push('\n');
    }
    relocator.out
}

struct Relocator {
    out: String,
    /// What each open brace belongs to: a module by its name, or anything else.
    open: Vec<Option<String>>,
    /// Within a string that began on an earlier line.
    in_string: bool,
}

impl Relocator {
    fn line(&mut self, line: &str) {
        let mut module = module_of(line);
        let prefix = format!("crate::{ROOT}::");
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            if self.in_string {
                rest = self.string(rest);
            } else if rest.starts_with("//") {
                self.out.push_str(rest);
                return;
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").map_or(rest.len(), |end| end + 2);
                self.out.push_str(&rest[..end]);
                rest = &rest[end..];
            } else if let Some(path) = rest.strip_prefix(&prefix) {
                let length = path_length(path);
                let relative = self.relative(&path[..length]);
                self.out.push_str(&relative);
                rest = &path[length..];
            } else {
                match first {
                    '"' => self.in_string = true,
                    '{' => self.open.push(module.take()),
                    '}' => drop(self.open.pop()),
                    _ => {}
                }
                self.out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }

    /// The rest of a string, up to its end or that of the line.
    fn string<'a>(&mut self, text: &'a str) -> &'a str {
        let mut escaped = false;
        for (index, letter) in text.char_indices() {
            self.out.push(letter);
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    self.in_string = false;
                    return &text[index + 1..];
                }
                _ => {}
            }
        }
        ""
    }

    fn relative(&self, target: &str) -> String {
        let here: Vec<&str> = self.open.iter().flatten().map(String::as_str).collect();
        let target: Vec<&str> = target.split("::").collect();
        // The last segment is what is meant, and never a module to go through.
        let modules = target.len() - 1;
        let shared = here.iter().zip(&target[..modules]).take_while(|(here, target)| here == target).count();
        let up = here.len() - shared;
        let down = &target[shared..];
        let mut path = "super::".repeat(up);
        if up == 0 && down.len() == 1 {
            // By itself, a name could be taken for a type parameter.
            path.push_str("self::");
        }
        path.push_str(&down.join("::"));
        path
    }
}

/// The module that a line opens.
fn module_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    let declaration = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?;
    let (name, _) = declaration.split_once('{')?;
    Some(name.trim().to_owned())
}

/// How much of the text is `name(::name)*`.
fn path_length(text: &str) -> usize {
    let mut length = 0;
    loop {
        let name = text[length..]
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(text.len(), |end| length + end);
        let rest = &text[name..];
        match rest.strip_prefix("::") {
            Some(next) if next.starts_with(|c: char| c.is_alphanumeric() || c == '_') => length = name + 2,
            _ => return name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::relocate;

    fn relocated(text: &str) -> String {
        relocate(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn goes_up_to_what_is_shared_and_down_again() {
        let text = "pub mod a {\n fn f() { crate::__selfsame::b::C }\n pub mod b { /* T */\n  crate::__selfsame::a::c::D<'a>\n }\n}";
        let expected =
            "pub mod a {\n fn f() { super::b::C }\n pub mod b { /* T */\n  super::c::D<'a>\n }\n}\n";
        assert_eq!(relocated(text), expected);
    }

    #[test]
    fn says_self_where_a_type_parameter_could_be_meant() {
        let text =
            "pub mod a {\n impl<S: crate::__selfsame::a::S> X {}\n crate::__selfsame::a::b::Reader::<'a>\n}";
        assert_eq!(relocated(text), "pub mod a {\n impl<S: self::S> X {}\n b::Reader::<'a>\n}\n");
    }

    #[test]
    fn leaves_strings_and_comments_alone() {
        let text = "pub mod a {\n const X: &str = \"{ \\\" crate::__selfsame::a::X\";\n /// { crate::__selfsame::a::X\n crate::__selfsame::b::X\n}";
        let expected = "pub mod a {\n const X: &str = \"{ \\\" crate::__selfsame::a::X\";\n /// { crate::__selfsame::a::X\n super::b::X\n}\n";
        assert_eq!(relocated(text), expected);
    }
}
