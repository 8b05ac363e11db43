//! What the generator makes of the golden contracts compiles against this crate, and means what the contracts say.

#[path = "../crates/selfsame-build/tests/golden/event.rs"]
mod event;
#[path = "../crates/selfsame-build/tests/golden/service.rs"]
mod service;
#[path = "../crates/selfsame-build/tests/golden/types.rs"]
mod types;

use selfsame::capnp::message;
use selfsame::capnp::traits::Owned;
use selfsame::codegen::RetryClass;
use selfsame::{Answer, Method, Request, Server, Service, Topic};
use service::base::{Closable, Named, NamedServer, closable, named};
use service::shop::article::article::{self, Status, Status_, Type};
use service::shop::article::{Article, ArticleClient, ArticleServer};

/// The key of an event that `fill` fills.
fn key<T: Topic>(fill: impl FnOnce(<T as Owned>::Builder<'_>)) -> Option<Vec<u8>> {
    let mut message = message::Builder::new_default();
    fill(message.init_root());
    T::key(message.get_root_as_reader().unwrap()).unwrap()
}

#[test]
fn events_know_their_topic_and_key() {
    use event::event::{Opened, Painted, Sold, opened::Door, painted::Colour};
    assert_eq!(
        [Sold::NAME, Painted::NAME, Opened::NAME, Door::NAME],
        ["shop.sold", "shop.painted", "shop.opened", "shop.door"]
    );
    assert_eq!(key::<Sold>(|mut event| event.set_article("book")).as_deref(), Some(&b"book"[..]));
    assert_eq!(key::<Sold>(|_| ()).as_deref(), Some(&b""[..]));
    assert_eq!(key::<Painted>(|mut event| event.set_colour(Colour::Blue)).as_deref(), Some(&b"1"[..]));
    assert_eq!(key::<Door>(|mut event| event.set_number(-7)).as_deref(), Some(&b"-7"[..]));
    assert_eq!(key::<Opened>(|_| ()), None);
}

#[test]
fn what_subscribers_filter_by_is_what_events_bear() {
    use event::event::{Painted, Sold, opened::Door, painted::Colour};
    assert_eq!(key::<Sold>(|mut event| event.set_article("book")), Some(Sold::key_bytes("book")));
    let red = key::<Painted>(|mut event| event.set_colour(Colour::Red));
    assert_eq!(red, Some(Painted::key_bytes(Colour::Red)));
    assert_eq!(key::<Door>(|mut event| event.set_number(-7)), Some(Door::key_bytes(-7)));
}

#[test]
fn a_key_that_a_newer_contract_has_is_told_by_its_number() {
    let mut message = message::Builder::new_default();
    // `Opened.Door` has its number where `Painted` has its colour.
    message.init_root::<event::event::opened::door::Builder<'_>>().set_number(12);
    let newer: event::event::painted::Reader<'_> = message.get_root_as_reader().unwrap();
    assert_eq!(<event::event::Painted as Topic>::key(newer).unwrap().as_deref(), Some(&b"12"[..]));
}

#[test]
fn methods_know_their_place_and_class() {
    assert_eq!(
        (Type::INFO.name, Type::INFO.ordinal, Type::INFO.retry),
        ("Article.type", 0, RetryClass::Once)
    );
    assert_eq!(
        (Status_::INFO.name, Status_::INFO.ordinal, Status_::INFO.retry),
        ("Article.status", 1, RetryClass::Idempotent)
    );
    assert_eq!(named::Name::INFO.retry, RetryClass::ReadOnly);
    assert_eq!(closable::Close::INFO.retry, RetryClass::Never);
    let served = ArticleServer::new(Book).interfaces();
    assert_eq!(
        served.iter().map(|interface| interface.name).collect::<Vec<_>>(),
        ["Article", "Named", "Closable"]
    );
    assert!(served.iter().all(|interface| interface.shape.is_sorted() && interface.fingerprint != 0));
    assert_eq!(article::INTERFACE.methods.len(), 2);
}

#[test]
fn messages_have_the_contracts_defaults() {
    use types::types::{LIMIT, UNIT, shape};
    assert_eq!(LIMIT, 5);
    assert!(matches!(UNIT.get().unwrap().which(), Ok(shape::Which::Circle(radius)) if radius == 1.0));
    let mut message = message::Builder::new_default();
    let shape = message.init_root::<shape::Builder<'_>>();
    assert_eq!(shape.into_reader().get_name().unwrap(), "square");
}

struct Book;

impl Named for Book {
    async fn name(&self, request: Request<named::Name>) -> Answer<named::Name> {
        request.reply(|mut reply| reply.set_name("book"))
    }
}

impl Closable for Book {
    async fn close(&self, request: Request<closable::Close>) -> Answer<closable::Close> {
        request.reply(|_| ())
    }
}

impl Article for Book {
    async fn type_(&self, request: Request<Type>) -> Answer<Type> {
        let stocked = request.read(|p| Ok(p.get_async()))?;
        request.reply(|mut reply| reply.set_status(if stocked { Status::InStock } else { Status::SoldOut }))
    }

    async fn status(&self, request: Request<Status_>) -> Answer<Status_> {
        let why = request.read(|p| Ok(format!("{} {}", p.get_count(), p.get_note()?.to_str()?)))?;
        request.reply(|mut reply| reply.set_why(&why))
    }
}

#[tokio::test]
async fn clients_and_servers_can_be_part_of_what_is_printed() {
    #[derive(Debug)]
    struct App {
        #[expect(dead_code, reason = "it is printed")]
        article: ArticleClient,
    }
    let endpoint = String::from("tcp://127.0.0.1:1");
    let app = App { article: ArticleClient::connect(endpoint).await.unwrap() };
    assert_eq!(
        format!("{app:?}"),
        "App { article: ArticleClient { channel: Channel { connected: false, open: 0, .. } } }"
    );
    assert_eq!(format!("{:?}", ArticleServer::new(Book)), "ArticleServer { .. }");
}

#[tokio::test]
async fn one_interface_in_two_services_is_refused_also_if_one_only_extends_it() {
    let server = Server::bind("tcp://127.0.0.1:0").await.unwrap();
    let server = server.service(ArticleServer::new(Book)).service(NamedServer::new(Book));
    let error = server.serve().await.unwrap_err().to_string();
    assert!(error.contains("both serve the interface Named"), "{error}");
}

#[tokio::test]
async fn calls_reach_their_handlers() {
    let article = ArticleClient::local(Book);
    let status = article.type_(|mut p| p.set_async(true)).await.unwrap();
    assert_eq!(status.get().unwrap().get_status(), Ok(Status::InStock));
    let why = article.status(|mut p| p.set_note("new")).await.unwrap();
    assert_eq!(why.get().unwrap().get_why().unwrap(), "1 new");
    assert_eq!(article.name(|_| ()).await.unwrap().get().unwrap().get_name().unwrap(), "book");
    article.close(|_| ()).await.unwrap();
}
