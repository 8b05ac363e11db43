//! Topics and keys.

use std::collections::HashMap;

use super::Checker;
use super::types::is_key;
use crate::model::{FieldKind, Kind, Node, Place, Struct};

/// The longest name of a topic, in bytes. With a key it has to fit into a frame that subscribers match by prefix.
const LONGEST_TOPIC: usize = 200;

/// How the topics begin by which the two ends of the library talk to each other.
const RESERVED: &str = "selfsame";

impl Checker<'_> {
    /// Topics of all files that are compiled or provided: two publishers of one name would be taken for one.
    pub(super) fn topics(&mut self) {
        let model = self.model;
        let mut known: HashMap<&str, &Node> = HashMap::new();
        for file in model.files.iter().filter(|file| file.place != Place::Builtin) {
            for node in model.nodes.values().filter(|node| node.file == file.id) {
                let Kind::Struct(structure) = &node.kind else { continue };
                if file.place == Place::Here {
                    self.event(node, structure);
                }
                let Some(topic) = structure.topics.first() else { continue };
                if let Some(other) = known.insert(topic, node) {
                    let place = model.file_of(other).map_or("", |file| &file.shown);
                    let wrong =
                        format!("the topic \"{topic}\" is that of {} in {place} too", model.path(other));
                    self.refuse(node, model.path(node), wrong, "give each event a topic of its own");
                }
            }
        }
    }

    fn event(&mut self, node: &Node, structure: &Struct) {
        let path = self.model.path(node);
        self.keys(node, structure, &path);
        let Some(topic) = structure.topics.first() else { return };
        if structure.topics.len() > 1 {
            self.refuse(node, path.clone(), "it has two topics", "keep one $Selfsame.topic");
        }
        if node.generic {
            let wrong = "an event may not be generic, since its subscribers know its topic only";
            self.refuse(node, path.clone(), wrong, "wrap the generic struct in one without type parameters");
        }
        if let Some(wrong) = wrong_with(topic) {
            let remedy = "name it like \"account.password\"";
            self.refuse(node, path, format!("the topic \"{}\" {wrong}", topic.escape_debug()), remedy);
        }
    }

    /// The key fields of a struct; not those of its groups, which are nodes of their own.
    fn keys(&mut self, node: &Node, structure: &Struct, path: &str) {
        let keys: Vec<_> = structure.fields.iter().filter(|field| field.key).collect();
        for (count, field) in keys.iter().enumerate() {
            let item = format!("{path}.{}", field.name);
            let (wrong, remedy) = if structure.is_group {
                ("a key may not stand in a group", "move it out to the event itself")
            } else if structure.topics.is_empty() {
                (
                    "its struct is no event",
                    "annotate the struct with $Selfsame.topic, or leave out $Selfsame.key",
                )
            } else if field.discriminant.is_some() {
                (
                    "a key may not be a member of a union, since not every event would have it",
                    "move it out of the union",
                )
            } else if count > 0 {
                ("it is a second key", "keep one: an event has one key at most")
            } else if !matches!(&field.kind, FieldKind::Slot { ty, .. } if is_key(ty)) {
                (
                    "a field of this type cannot be a key",
                    "take a field of type Text, an integer, Bool or an enum",
                )
            } else {
                continue;
            };
            self.refuse(node, item, wrong, remedy);
        }
    }
}

/// What is wrong with the name of a topic.
fn wrong_with(topic: &str) -> Option<String> {
    if topic.is_empty() {
        return Some("is empty".to_owned());
    }
    if topic.len() > LONGEST_TOPIC {
        return Some(format!("is {} bytes long, and {LONGEST_TOPIC} is the most", topic.len()));
    }
    if topic.starts_with(RESERVED) {
        return Some(format!("begins with `{RESERVED}`, as only the library's own do"));
    }
    let bad = topic.chars().find(|c| matches!(c, '/' | '*') || c.is_whitespace() || c.is_control())?;
    Some(match bad {
        '/' => "contains `/`, which ends the topic's name in the topic frame".to_owned(),
        '*' => "contains `*`, which looks like a wildcard, and there are none".to_owned(),
        _ => "contains white space or a control character".to_owned(),
    })
}
