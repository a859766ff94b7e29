//! Redis behind TLS, behind sentinels and as a cluster, each for real. The store does the same on all of them.

use std::net::TcpListener;

use super::*;

/// Sentinels wait half a minute before they act if they were stopped themselves for a while, as on a busy machine.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(120);

/// A port nobody listens on, whose neighbour for the bus of a cluster is free too.
fn free_port() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut ports = std::iter::repeat_with(|| rand::random_range(15_000..45_000));
    let found = ports
        .by_ref()
        .take(1000)
        .find(|p| free(*p) && free(p + 10_000));
    found.expect("some port is free")
}

/// Options of a server on this port.
fn listening(port: u16) -> Vec<String> {
    let port = port.to_string();
    let options = ["--bind", "127.0.0.1", "--port", &port];
    options.map(str::to_owned).to_vec()
}

async fn server(options: Vec<String>) -> Server {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Server::with(&options).await
}

fn at(url: &str) -> Options {
    options(url, Duration::from_secs(20), Duration::from_secs(1))
}

fn store(options: &Options) -> Arc<Redis> {
    Redis::new(options, CancellationToken::new()).expect("is a place")
}

async fn suite_passes_at(options: &Options, servers: &[&Server]) {
    suite::run(async || {
        for server in servers {
            server.ask::<()>(&["FLUSHALL"]).await;
        }
        let store: Arc<dyn Store> = store(options);
        store
    })
    .await;
}

/// What one writes the other is told.
async fn announcements_arrive(options: &Options) {
    let quiet = Options {
        look_again: Duration::from_secs(3600),
        ..options.clone()
    };
    let (mine, theirs) = (store(&quiet), store(options));
    let mut changes = mine.changes();
    assert_eq!(told(&mut changes).await, Change::Anything);
    theirs.put_key(api_key("k")).await.expect("is written");
    assert_eq!(told(&mut changes).await, Change::Keys);
}

#[tokio::test]
async fn passes_the_suite_through_tls() {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("is made");
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("is written");
        path
    };
    let certificate = file("certificate", made.cert.pem());
    let key = file("key", made.signing_key.serialize_pem());
    let port = free_port();
    let mut options = listening(0);
    for (name, value) in [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", certificate.display().to_string()),
        ("--tls-key-file", key.display().to_string()),
        ("--tls-ca-cert-file", certificate.display().to_string()),
        ("--tls-auth-clients", "no".into()),
        ("--requirepass", "secret".into()),
    ] {
        options.extend([name.to_owned(), value]);
    }
    let server = Server::with_login("secret", options).await;
    let url = format!("rediss://:secret@localhost:{port}");
    let known = Options {
        authority: Some(certificate),
        ..at(&url)
    };
    suite_passes_at(&known, &[&server]).await;
    announcements_arrive(&known).await;

    // Nobody this system trusts has signed it.
    let unknown = cause(store(&at(&url)).keys().await);
    assert!(
        unknown.contains("certificate") || unknown.contains("UnknownIssuer"),
        "{unknown}"
    );
    let wrong = url.replace("secret", "letmein");
    let wrong = Options {
        place: url::read(&wrong).expect("is a URL"),
        ..known
    };
    let wrong = cause(store(&wrong).keys().await);
    assert!(!wrong.contains("letmein"), "{wrong}");
    let missing = Options {
        authority: Some("/no/such/file".into()),
        ..at(&url)
    };
    let missing = cause(Redis::new(&missing, CancellationToken::new()));
    assert!(missing.contains("/no/such/file"), "{missing}");
}

#[tokio::test]
async fn passes_the_suite_through_a_sentinel_and_follows_a_new_master() {
    let ports = [free_port(), free_port(), free_port()];
    let [first, second, sentinel] = ports.map(|port| port.to_string());
    let mut master = server(listening(ports[0])).await;
    let mut options = listening(ports[1]);
    options.extend(["--replicaof".into(), format!("127.0.0.1 {first}")]);
    let replica = server(options).await;
    let dir = tempfile::tempdir().expect("a directory");
    let watches = format!(
        "port {sentinel}\nbind 127.0.0.1\nsentinel monitor the-master 127.0.0.1 {first} 1\n\
         sentinel down-after-milliseconds the-master 1000\nsentinel failover-timeout the-master 5000\n"
    );
    std::fs::write(dir.path().join("sentinel.conf"), watches).expect("is written");
    let mut process = Command::new("redis-server")
        .args(["sentinel.conf", "--sentinel"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let client = redis::Client::open(format!("redis://127.0.0.1:{sentinel}")).expect("is a URL");
    eventually("the sentinel to know the replica", async || {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let replicas: Vec<HashMap<String, String>> = cmd("SENTINEL")
            .arg("REPLICAS")
            .arg("the-master")
            .query_async(&mut connection)
            .await
            .ok()?;
        let healthy = |replica: &HashMap<String, String>| {
            replica.get("port") == Some(&second) && replica["flags"] == "slave"
        };
        replicas.iter().any(healthy).then_some(())
    })
    .await;

    let url = format!("redis+sentinel://127.0.0.1:{sentinel}/the-master");
    let at = at(&url);
    suite_passes_at(&at, &[&master]).await;
    announcements_arrive(&at).await;

    let store = store(&at);
    let mut changes = store.changes();
    assert_eq!(told(&mut changes).await, Change::Anything);
    let f = function("f", &upload(&store, "code").await);
    store.put(f.clone(), None).await.expect("is created");
    eventually("the replica to have it", async || {
        let id = f.id.as_str();
        let there: bool = replica.ask(&["HEXISTS", key::FUNCTIONS, id]).await;
        there.then_some(())
    })
    .await;
    // Told of everything so far, so that what comes next is of what comes next.
    let written = Change::Function {
        id: f.id.clone(),
        revision: Some(1),
    };
    while told(&mut changes).await != written {}
    master.crash();
    let deadline = clock::now() + FAILOVER_PATIENCE;
    while let Err(error) = store.put(next(&f), Some(1)).await {
        // An answer that was lost on its way.
        if matches!(error, Error::Stale) {
            break;
        }
        assert!(clock::now() < deadline, "no new master: {error:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = store.functions().await.expect("are listed");
    assert!(found.contains(&next(&f)), "{found:?}");
    assert!(store.code(&f.code.sha256).await.expect("is read").is_some());
    // It listens at the new one.
    while told(&mut changes).await != Change::Anything {}
    drop(process.kill());
    drop(process.wait());
}

#[tokio::test]
async fn passes_the_suite_on_a_cluster_of_three() {
    let ports = [free_port(), free_port(), free_port()];
    let mut nodes = Vec::new();
    for port in ports {
        let mut options = listening(port);
        options.extend(["--cluster-enabled", "yes"].map(str::to_owned));
        nodes.push(server(options).await);
    }
    let addresses = ports.map(|port| format!("127.0.0.1:{port}"));
    let created = Command::new("timeout")
        .args(["60", "redis-cli", "--cluster", "create"])
        .args(&addresses)
        .arg("--cluster-yes")
        .output()
        .expect("redis-cli is installed");
    assert!(created.status.success(), "{created:?}");
    for node in &nodes {
        eventually("the cluster to be up", async || {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await;
            info.contains("cluster_state:ok").then_some(())
        })
        .await;
    }
    // Found through any of them, also when the first is not there.
    let url = format!(
        "redis+cluster://127.0.0.1:1,{},{}",
        addresses[1], addresses[0]
    );
    let at = at(&url);
    suite_passes_at(&at, &nodes.iter().collect::<Vec<_>>()).await;
    announcements_arrive(&at).await;
}
