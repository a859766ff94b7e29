//! Layers, as far as they need no container: who may use which, what a function's size is, and where content is downloaded from.

use super::*;
use crate::domain::function::{Code, Function};

impl Face {
    async fn layer(&self, name: &str, text: &str) -> Answer {
        let content = json!({"Content": {"ZipFile": zip(text)}});
        let target = format!("/2018-10-31/layers/{name}/versions");
        self.ask("POST", &target, content).await
    }
}

fn layer_arn(id: &str) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:layer:{id}")
}

#[tokio::test]
async fn a_key_is_for_layers_by_their_names() {
    let mut face = Face::new();
    for name in ["orders-lib", "mail-lib"] {
        assert_eq!(face.layer(name, "x").await.status, 201);
    }
    let mail = json!({ "Layers": [layer_arn("mail-lib:1")] });
    face.create("orders", mail.clone()).await;
    let wish = Wish {
        scopes: vec![Scope::Deploy],
        functions: vec![Pattern::parse("orders*").expect("a pattern")],
        ..Wish::admin()
    };
    face.caller = signer(&face.world, &face.world.keys, wish);
    let listed = face.ask("GET", "/2018-10-31/layers", Value::Null).await;
    let listed = listed.json();
    assert_eq!(listed["Layers"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["Layers"][0]["LayerName"], "orders-lib");
    let by_arn = format!(
        "/2018-10-31/layers?find=LayerVersion&Arn={}",
        layer_arn("mail-lib:1")
    );
    let body = json!({"Content": {"ZipFile": zip("x")}});
    for (method, target, body) in [
        ("GET", "/2018-10-31/layers/mail-lib/versions/1", Value::Null),
        (
            "GET",
            "/2018-10-31/layers/mail-lib/versions/1/content",
            Value::Null,
        ),
        ("GET", "/2018-10-31/layers/mail-lib/versions", Value::Null),
        (
            "GET",
            "/2018-10-31/layers/mail-lib/versions/1/policy",
            Value::Null,
        ),
        ("GET", &by_arn, Value::Null),
        ("GET", "/2018-10-31/layers/nobodys/versions/1", Value::Null),
        (
            "DELETE",
            "/2018-10-31/layers/mail-lib/versions/1",
            Value::Null,
        ),
        ("POST", "/2018-10-31/layers/mail-lib/versions", body.clone()),
        (
            "PUT",
            "/2015-03-31/functions/orders/configuration",
            mail.clone(),
        ),
    ] {
        let (status, kind, message) = face.ask(method, target, body).await.error();
        assert_eq!(
            (status, kind.as_str()),
            (403, "AccessDeniedException"),
            "{target}"
        );
        assert!(
            message.contains("on resource: arn:aws:lambda:us-east-1:000000000000:layer:"),
            "{message}"
        );
    }
    assert_eq!(face.layer("orders-lib", "y").await.json()["Version"], 2);
    let own = json!({ "Layers": [layer_arn("orders-lib:2")] });
    let target = "/2015-03-31/functions/orders/configuration";
    assert_eq!(face.ask("PUT", target, own).await.status, 200);
    // The other face asks the same.
    let grant = face.caller.clone();
    let change = json!({"layers": ["mail-lib:1"]}).to_string();
    let draft = move |current: &Function, rules: crate::api::control::draft::Rules<'_>| {
        crate::api::control::draft::Draft::update(change.as_bytes(), current, rules)
    };
    let deploy = face.world.control.deploy.clone();
    let changed = deploy.update_from(grant, "orders".into(), None, None, draft);
    assert_eq!(changed.await.expect_err("not its layer").status(), 403);
    let stored = face.world.stored("orders").await.expect("stored");
    assert_eq!(stored.layers[0].id.to_string(), "orders-lib:2");
}

#[tokio::test]
async fn content_is_where_the_document_says() {
    let face = Face::new();
    let made = face.layer("l", "what is in it").await.json();
    let url = made["Content"]["Location"].as_str().expect("a URL");
    let target = url
        .strip_prefix("http://127.0.0.1:1")
        .expect("this server")
        .to_owned();
    let get = async |target: &str| {
        let request = Request::builder().uri(target).header("host", "127.0.0.1:1");
        let request = request.body(axum::body::Body::empty()).expect("a request");
        face.lambda.serve(request).await
    };
    let found = get(&target).await.expect("is known");
    assert_eq!(found.headers()["content-type"], "application/zip");
    let body = found.into_body().collect().await.expect("whole").to_bytes();
    assert_eq!(STANDARD.encode(body), zip("what is in it"));
    let forged = get(&target.replace("versions/1", "versions/2")).await;
    assert_eq!(forged.expect_err("another path").doubt, Doubt::Signature);
    face.ask("DELETE", "/2018-10-31/layers/l/versions/1", Value::Null)
        .await;
    let gone = get(&target).await.expect("is known");
    assert_eq!(gone.status(), 404);
}

#[tokio::test]
async fn code_that_was_stored_by_an_older_version_is_measured() {
    let face = Face::new();
    face.layer("l", "a layer").await;
    face.world.create("f").await;
    let stored = face.world.stored("f").await.expect("stored");
    let known = stored.code.unpacked_size.expect("is noted");
    let old = Function {
        revision: stored.revision + 1,
        code: Code {
            unpacked_size: None,
            ..stored.code.clone()
        },
        ..stored.clone()
    };
    let store = &face.world.store.inner;
    store
        .put(old.clone(), Some(stored.revision))
        .await
        .expect("written");
    face.world.scheduler.publish(old);
    let layers = json!({ "Layers": [layer_arn("l:1")] });
    let target = "/2015-03-31/functions/f/configuration";
    let changed = face.ask("PUT", target, layers).await;
    assert_eq!(changed.status, 200, "{:?}", changed.body);
    let stored = face.world.stored("f").await.expect("stored");
    assert_eq!(stored.code.unpacked_size, Some(known));
    assert_eq!(
        stored.layers[0].content.unpacked_size,
        "a layer".len() as u64
    );
}

#[tokio::test]
async fn of_many_publications_each_has_a_number_of_its_own() {
    let face = Face::new();
    // As many as may meet and all still be served: each loses a number to each of the others at most.
    let all = futures_util::future::join_all((0..3).map(|_| face.layer("l", "x"))).await;
    let mut numbers: Vec<_> = all
        .iter()
        .map(|made| made.json()["Version"].as_u64())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
}
