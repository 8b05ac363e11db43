//! Which changes of a contract are compatible: the rules of Cap'n Proto's evolution, and the retry class.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{Fingerprint, of};
use crate::model::Kind;
use crate::model::read::read;
use crate::request::{self, Job};

const CONTRACT: &str = "
    interface Shop @0xe000000000000001 {
      # Sells.
      buy @0 (article :Article, count :UInt32 = 1) -> (price :Price) $Selfsame.retry(once);
      look @1 () -> (articles :List(Article)) $Selfsame.retry(readOnly);
    }
    struct Article @0xe000000000000002 { name @0 :Text; kind @1 :Kind; }
    struct Price @0xe000000000000003 { coins @0 :UInt64; union { cash @1 :Void; card @2 :Text; } }
    enum Kind @0xe000000000000004 { new @0; used @1; }
    struct Unreached @0xe000000000000005 { x @0 :Text; }
";

fn fingerprint(file: &str, contract: &str) -> Fingerprint {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    let head = "@0xe000000000000000; using Selfsame = import \"/selfsame.capnp\";";
    fs::write(&path, format!("{head}{contract}")).unwrap();
    let job = Job {
        tool: PathBuf::from("capnp"),
        inputs: vec![path],
        import_paths: Vec::new(),
        provided: Vec::new(),
    };
    let model = read(&request::compile(&job).unwrap()).unwrap();
    let shop = model.nodes.values().find(|node| matches!(node.kind, Kind::Interface(_))).unwrap();
    of(&model, shop.id)
}

/// Whether both sides differ, and whether that keeps them from talking.
fn compare(from: &str, to: &str) -> (bool, bool) {
    assert!(CONTRACT.contains(from), "{from}");
    let old = fingerprint("a.capnp", CONTRACT);
    let new = fingerprint("a.capnp", &CONTRACT.replacen(from, to, 1));
    let forms: BTreeMap<u64, u64> = new.shape.into_iter().collect();
    let agree = old.shape.iter().all(|(member, form)| forms.get(member).is_none_or(|other| other == form));
    (old.whole != new.whole, !agree)
}

#[test]
fn what_is_the_same() {
    let one = fingerprint("a.capnp", CONTRACT);
    let other = fingerprint("another.capnp", &CONTRACT.replace("# Sells.", "# Sells things."));
    assert_eq!((one.whole, &one.shape), (other.whole, &other.shape));
    assert!(one.shape.is_sorted() && one.shape.len() == 2 + 2 + 1 + 1 + 2 + 3, "{:?}", one.shape);
    assert_eq!(
        compare("Unreached @0xe000000000000005 { x @0 :Text; }", "Other @0xe000000000000006 {}"),
        (false, false)
    );
    // A struct is known by its id.
    assert_eq!(
        compare("struct Price @0xe000000000000003", "using Price = Cost; struct Cost @0xe000000000000003"),
        (false, false)
    );
}

#[test]
fn what_differs_and_does_not_matter() {
    for (from, to) in [
        ("kind @1 :Kind;", "kind @1 :Kind; weight @2 :Float32;"),
        ("used @1;", "used @1; rented @2;"),
        ("card @2 :Text;", "card @2 :Text; cheque @3 :UInt64;"),
        ("count :UInt32 = 1)", "count :UInt32 = 1, note :Text)"),
        ("look @1 ()", "sell @2 () -> (); look @1 ()"),
        ("name @0 :Text;", "title @0 :Text;"),
        ("look @1", "see @1"),
        ("kind @1 :Kind;", "of :group { kind @1 :Kind; }"),
        ("$Selfsame.retry(once)", "$Selfsame.Raises(Price).it"),
        (
            "interface Shop @0xe000000000000001",
            "interface Open @0xe000000000000008 {} interface Shop @0xe000000000000001 extends(Open)",
        ),
        ("coins @0 :UInt64;", "union { coins @0 :UInt64; notes @3 :UInt64; }  amount :"),
    ] {
        // The last one moves a field into a union, as its first member; the union that follows needs a name then.
        let to = to.replace("amount :", "how :");
        assert_eq!(compare(from, &to), (true, false), "{from} -> {to}");
    }
}

/// Names are in no form, and an enumerant is nothing else.
#[test]
fn numbers_of_enumerants_that_change_are_not_noticed() {
    assert_eq!(compare("new @0; used @1;", "used @0; new @1;"), (true, false));
}

#[test]
fn what_is_incompatible() {
    for (from, to) in [
        ("name @0 :Text;", "name @0 :Data;"),
        ("coins @0 :UInt64;", "coins @0 :Int64;"),
        ("List(Article)", "List(Price)"),
        ("count :UInt32 = 1)", "count :UInt32 = 2)"),
        ("$Selfsame.retry(once)", "$Selfsame.retry(idempotent)"),
        ("$Selfsame.retry(readOnly)", ""),
        ("kind @1 :Kind;", "kind @1 :UInt16;"),
        ("-> (price :Price)", "-> Price"),
        ("struct Price @0xe000000000000003", "struct Price @0xe000000000000007"),
        ("coins @0 :UInt64; union { cash", "union { coins @0 :UInt64; cash"),
        ("union { cash @1 :Void; card @2 :Text; }", "cash @1 :Void; card @2 :Text;"),
    ] {
        assert_eq!(compare(from, to), (true, true), "{from} -> {to}");
    }
}
