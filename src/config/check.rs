//! Gives the values as written their meaning, and says everything that is wrong with them at once. Pure; called by `load`.

mod destinations;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use tracing_subscriber::EnvFilter;

use crate::config::raw::{Fault, Faults, Values};
use crate::config::{
    Aws, Config, Engine, Events, Images, Invocations, Limits, Log, Logs, Pool, Reach, S3, Server,
    Service, Sqs, Store, Tls, Traces, Urls, Worker,
};
use crate::domain::aws::Place;
use crate::domain::function::Network;
use crate::domain::limits::Mebibytes;
use crate::domain::pattern::Pattern;

/// No timer needs more, and time stays far from where adding to the clock overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// User and group ids: not root, and not the one that means "none".
const IDS: RangeInclusive<i64> = 1..=4_294_967_294;
/// Mebibytes of memory there can be: 64 TiB.
const MEMORY_MAX: i64 = 64 * 1024 * 1024;

/// Checks every value. `faults` are those found while the values were read; keys they name still have an older value, which
/// is not compared with others.
pub fn check(values: &Values, faults: Vec<Fault>) -> Result<Config, Faults> {
    let mut read = Reader { values, faults };
    let config = Config {
        server: Server {
            listen: read.text("server.listen", |text| {
                text.parse().map_err(|_ignored| {
                    format!("{text:?} is not an address, expected IP:PORT like 127.0.0.1:8080")
                })
            }),
            max_connections: read.whole("server.max_connections", 1..=1_000_000),
            max_connections_per_address: not_zero(
                read.whole("server.max_connections_per_address", 0..=1_000_000),
            ),
            header_timeout: read.time("server.header_timeout"),
            body_timeout: read.time("server.body_timeout"),
            arriving_bytes: read.room("server.arriving_mb"),
            untaken_bytes: read.room("server.untaken_mb"),
            drain_grace: read.time_or_zero("server.drain_grace"),
            failed_keys: read.whole("server.failed_keys", 1..=1_000_000),
            hosts: read.value("server.hosts", hosts),
            tls: read.tls(),
            threads: not_zero(read.whole("server.threads", 0..=1024)),
        },
        state_dir: read.path("state.dir"),
        store: {
            let call_timeout = read.time("store.call_timeout");
            let look_again = read.time("store.look_again");
            let tls_ca = read.text("store.tls_ca", |text| {
                Ok((!text.is_empty()).then(|| PathBuf::from(text)))
            });
            read.text("store.url", |text| match text {
                "embedded" => Ok(Store::Embedded),
                url => Ok(Store::Redis {
                    place: Box::new(crate::config::redis::read(url)?),
                    tls_ca: tls_ca.clone(),
                    call_timeout,
                    look_again,
                }),
            })
        },
        secrets_file: read.text("secrets.key_file", |text| match text {
            "" => Ok(None),
            path => Ok(Some(PathBuf::from(path))),
        }),
        engine: Engine {
            socket: read.path("engine.socket"),
            call_timeout: read.time("engine.call_timeout"),
            build_timeout: read.time("engine.build_timeout"),
            lanes: read.whole("engine.lanes", 1..=64),
        },
        runtimes_dir: read.path("runtimes.dir"),
        pool: Pool {
            keep_alive: read.time("pool.keep_alive"),
            memory_budget: not_zero(read.whole("pool.memory_budget_mb", 0..=MEMORY_MAX))
                .map(Mebibytes),
            stem_min: read.whole("pool.stem_min", 0..=1000),
            stem_max: read.whole("pool.stem_max", 0..=1000),
            stem_window: read.time("pool.stem_window"),
            boot_timeout: read.time("pool.boot_timeout"),
            init_timeout: read.time("pool.init_timeout"),
            abandoned_grace: read.time_or_zero("pool.abandoned_grace"),
            cancel_grace: read.time_or_zero("pool.cancel_grace"),
        },
        limits: Limits {
            concurrency: read.whole("limits.concurrency", 1..=1_000_000),
            line_depth: read.whole("limits.line_depth", 1..=1_000_000),
            max_wait: read.time("limits.max_wait"),
            batch_max: read.whole("limits.batch_max", 1..=10_000),
            batch_parallel: read.whole("limits.batch_parallel", 1..=10_000),
            unreserved_percent: read.whole("limits.unreserved_percent", 0..=100),
            lease: read.text("limits.lease", lease),
            permit_wait: read.time_or_zero("limits.permit_wait"),
            idempotency_ttl: read.time("limits.idempotency_ttl"),
            idempotency_keys: read.whole("limits.idempotency_keys", 1..=100_000_000),
            idempotency_answer_bytes: read
                .whole::<usize>("limits.idempotency_answer_kb", 0..=10 * 1024)
                * 1024,
            idempotency_total_bytes: read
                .whole::<u64>("limits.idempotency_total_mb", 0..=1024 * 1024)
                * 1024
                * 1024,
        },
        events: Events {
            parallel: read.whole("events.parallel", 1..=10_000),
            retries: read.whole("events.retries", 0..=100),
            retry_delay: read.time("events.retry_delay"),
            max_age: read.time("events.max_age"),
            lease: read.time("events.lease"),
            waiting_max: read.whole("events.waiting_max", 1..=100_000_000),
            keep: read.time("events.keep"),
            keep_max: read.whole("events.keep_max", 1..=100_000_000),
            dead_max: read.whole("events.dead_max", 0..=100_000_000),
            webhooks: read.text("events.webhooks", |text| match text {
                "off" => Ok(Reach::Nowhere),
                "public" => Ok(Reach::Public),
                "any" => Ok(Reach::Anywhere),
                other => Err(format!(
                    "{other:?} is unknown, expected \"off\", \"public\" or \"any\""
                )),
            }),
        },
        invocations: Invocations {
            content: read.whole::<usize>("invocations.keep_kb", 0..=1024) * 1024,
            total: read.whole::<usize>("invocations.keep_total_mb", 0..=64 * 1024) * 1024 * 1024,
            except: read.value("invocations.keep_except", patterns),
        },
        worker: Worker {
            tmp: Mebibytes(read.whole("worker.tmp_mb", 1..=10_240)),
            // A runtime with a few threads of its own does not start with fewer.
            pids: read.whole("worker.pids", 16..=4_194_304),
            user: read.whole("worker.user", IDS),
            group: read.whole("worker.group", IDS),
            cpu_floor_cores: read.value("worker.cpu_floor_cores", |value| {
                let cores = value.as_float().expect("typed by its default");
                let good = (0.0..=64.0).contains(&cores);
                good.then_some(cores)
                    .ok_or_else(|| format!("{cores} is out of range, expected 0 to 64"))
            }),
            code_path_roots: read.value("worker.code_path_roots", roots),
            code_path_watch: read.text("worker.code_path_watch", |text| match text {
                "auto" => Ok(None),
                "on" => Ok(Some(true)),
                "off" => Ok(Some(false)),
                other => Err(format!(
                    "{other:?} is unknown, expected \"auto\", \"on\" or \"off\""
                )),
            }),
        },
        images: Images {
            allowed: read.value("images.allowed", |value| {
                names_of(value, Pattern::of_images)
            }),
        },
        logs: Logs {
            keep_bytes: read.whole::<usize>("logs.keep_kb", 1..=1024 * 1024) * 1024,
            line_bytes: read.whole::<usize>("logs.line_kb", 1..=1024) * 1024,
        },
        aws: read.aws(),
        traces: read.traces(),
        log: Log {
            level: read.text("log.level", level),
            json: read.text("log.format", |text| match text {
                "text" => Ok(false),
                "json" => Ok(true),
                other => Err(format!(
                    "{other:?} is unknown, expected \"text\" or \"json\""
                )),
            }),
        },
    };
    read.in_order("pool.stem_min", "pool.stem_max");
    read.in_order("logs.line_kb", "logs.keep_kb");
    match read.faults {
        none if none.is_empty() => Ok(config),
        faults => Err(Faults(faults)),
    }
}

fn not_zero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn roots(value: &Value) -> Result<Vec<PathBuf>, String> {
    let list = value.as_array().expect("typed by its default").iter();
    list.map(|item| {
        let path = PathBuf::from(item.as_str().expect("typed by its default"));
        match path.is_absolute() {
            true => Ok(path),
            false => Err(format!("{path:?} is relative, expected absolute paths")),
        }
    })
    .collect()
}

fn stand_ins(value: &Value) -> Result<Vec<(String, String)>, String> {
    let list = value.as_array().expect("typed by its default").iter();
    list.map(|item| {
        let text = item.as_str().expect("typed by its default");
        match text.split_once('=') {
            Some((name, runtime)) if !name.is_empty() && !runtime.is_empty() => {
                Ok((name.trim().into(), runtime.trim().into()))
            }
            _ => Err(format!("{text:?} is no pair, expected NAME=RUNTIME")),
        }
    })
    .collect()
}

fn names_of(
    value: &Value,
    parse: fn(&str) -> Result<Pattern, String>,
) -> Result<Vec<Pattern>, String> {
    let list = value.as_array().expect("typed by its default").iter();
    list.map(|item| parse(item.as_str().expect("typed by its default")))
        .collect()
}

fn hosts(value: &Value) -> Result<Vec<String>, String> {
    let list = value.as_array().expect("typed by its default").iter();
    list.map(|item| {
        let name = item.as_str().expect("typed by its default");
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        match !name.is_empty() && name.chars().all(good) {
            true => Ok(name.to_owned()),
            false => Err(format!(
                "{name:?} is not a name, expected one like hearth.example.org, without a port"
            )),
        }
    })
    .collect()
}

fn patterns(value: &Value) -> Result<Vec<Pattern>, String> {
    let list = value.as_array().expect("typed by its default").iter();
    list.map(|item| {
        let text = item.as_str().expect("typed by its default");
        Pattern::parse(text).map_err(|why| format!("{text:?} {why}"))
    })
    .collect()
}

/// Labels of a host name, in lower case.
fn is_domain(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        let edges = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && !edges && label.chars().all(good)
    };
    text.len() <= 180 && text.split('.').all(label)
}

fn region(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !text.is_empty() && text.len() <= 32 && text.chars().all(good);
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} is no region, expected one like us-east-1"))
}

/// Where a collector is; without a path it is where collectors have it.
fn endpoint(url: &str) -> Result<String, String> {
    let like = "http://127.0.0.1:4318/v1/traces";
    match web_path(url, like, "traces.headers")? {
        "" => Ok(format!("{}/v1/traces", url.trim_end_matches('/'))),
        _ => Ok(url.to_owned()),
    }
}

/// Where a service like AWS's is.
fn service_endpoint(url: &str, secrets: &str) -> Result<String, String> {
    web_path(url, "http://127.0.0.1:9000", secrets)?;
    match url.contains(['?', '#']) {
        true => Err("has more in it than a host and a path".into()),
        false => Ok(url.trim_end_matches('/').to_owned()),
    }
}

/// The path of a URL, without the slash it begins with. `like` is what is expected, `secrets` is where its passwords belong.
fn web_path<'a>(url: &'a str, like: &str, secrets: &str) -> Result<&'a str, String> {
    let wrong = |what: &str| format!("{what}, expected a URL like {like}");
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| wrong("begins with neither http:// nor https://"))?;
    let strange = |c: char| !c.is_ascii_graphic();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    match () {
        () if url.contains(strange) => Err(wrong("has characters that belong into no URL")),
        () if host.is_empty() || host.starts_with(':') => Err(wrong("names no host")),
        () if host.contains('@') => Err(format!(
            "has a password in it, which belongs into {secrets}"
        )),
        () => Ok(path),
    }
}

/// The values are not repeated in what is said of them: they may be secrets.
fn headers(value: &Value) -> Result<Vec<(String, String)>, String> {
    let list = value.as_array().expect("typed by its default").iter();
    let named = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let spoken = |c: char| c == ' ' || c.is_ascii_graphic();
    list.enumerate()
        .map(|(at, item)| {
            let text = item.as_str().expect("typed by its default");
            let pair = text
                .split_once('=')
                .map(|(name, value)| (name.trim(), value.trim()));
            match pair {
                Some((name, value))
                    if !name.is_empty() && name.chars().all(named) && value.chars().all(spoken) =>
                {
                    Ok((name.to_owned(), value.to_owned()))
                }
                _ => Err(format!(
                    "number {} is no header, expected NAME=VALUE",
                    at + 1
                )),
            }
        })
        .collect()
}

/// The filter syntax takes any single word for the name of a module, so a misspelt level would turn everything on for nobody.
fn level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    if level || (text.contains('=') && EnvFilter::builder().parse(text).is_ok()) {
        return Ok(text.into());
    }
    Err(format!(
        "{text:?} is no level, expected error, warn, info, debug, trace or a filter like hearth=debug,info"
    ))
}

/// Takes values out and collects faults. A faulty value is answered by its default, so that reading goes on; the result is
/// given away only if there was no fault.
struct Reader<'a> {
    values: &'a Values,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn value<T>(&mut self, key: &str, parse: impl Fn(&Value) -> Result<T, String>) -> T {
        let entry = self.values.get(key);
        parse(&entry.value).unwrap_or_else(|what| {
            self.faults.push(Fault::of(key, &entry.origin, what));
            parse(&entry.default).expect("the defaults are tested to pass")
        })
    }

    fn text<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.value(key, |v| parse(v.as_str().expect("typed by its default")))
    }

    fn whole<T: TryFrom<i64>>(&mut self, key: &str, range: RangeInclusive<i64>) -> T {
        self.value(key, |value| {
            let number = value.as_integer().expect("typed by its default");
            let fits = range.contains(&number).then(|| T::try_from(number).ok());
            fits.flatten().ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("{number} is out of range, expected {least} to {most}")
            })
        })
    }

    /// For bodies and answers, of which the largest has to fit twice: nobody takes more than is left to others.
    fn room(&mut self, key: &str) -> usize {
        const MIB: usize = 1024 * 1024;
        self.whole::<usize>(key, 16..=MIB as i64) * MIB
    }

    fn path(&mut self, key: &str) -> PathBuf {
        self.text(key, |text| match text {
            "" => Err("is empty, expected a path".into()),
            url if url.contains("://") => Err(format!("{url:?} is a URL, expected a path")),
            path => Ok(path.into()),
        })
    }

    /// Both files or neither.
    fn tls(&mut self) -> Option<Tls> {
        const KEYS: [&str; 2] = ["server.tls.certificate", "server.tls.key"];
        let [certificate, key] = KEYS.map(|key| self.text(key, |text| Ok(PathBuf::from(text))));
        let [has_certificate, has_key] = [&certificate, &key].map(|p| !p.as_os_str().is_empty());
        if has_certificate != has_key {
            let (missing, given) = if has_key {
                (KEYS[0], KEYS[1])
            } else {
                (KEYS[1], KEYS[0])
            };
            let origin = &self.values.get(given).origin;
            let what = format!("is empty, but {given} is given ({origin})");
            self.faults
                .push(Fault::of(missing, &self.values.get(missing).origin, what));
        }
        (has_certificate && has_key).then_some(Tls { certificate, key })
    }

    fn aws(&mut self) -> Aws {
        let aws = self.aws_alone();
        if let Some(what) = destinations::unsent(&aws) {
            let key = "aws.destinations";
            let origin = &self.values.get(key).origin;
            self.faults.push(Fault::of(key, origin, what));
        }
        aws
    }

    fn aws_alone(&mut self) -> Aws {
        let region = self.text("aws.region", region);
        Aws {
            s3: {
                let buckets = self.value("aws.s3.buckets", |value| {
                    names_of(value, Pattern::of_buckets)
                });
                let service = self.service("aws.s3", &region);
                service.map(|service| S3 { service, buckets })
            },
            sqs: {
                let parallel = self.whole("aws.sqs.parallel", 1..=1000);
                let service = self.service("aws.sqs", &region);
                service.map(|service| Sqs { service, parallel })
            },
            place: Place {
                region,
                account: self.text("aws.account", |text| {
                    let good = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
                    good.then(|| text.to_owned())
                        .ok_or_else(|| format!("{text:?} is no account, expected twelve digits"))
                }),
            },
            runtimes: self.value("aws.runtimes", stand_ins),
            destinations: self.value("aws.destinations", destinations::read),
            show_environment: self.value("aws.show_environment", |value| {
                Ok(value.as_bool().expect("typed by its default"))
            }),
            network: self.text("aws.network", |text| match text {
                "none" => Ok(Network::None),
                "egress" => Ok(Network::Egress),
                other => Err(format!(
                    "{other:?} is unknown, expected \"none\" or \"egress\""
                )),
            }),
            urls: Urls {
                domain: self.text("aws.url_domain", |text| {
                    is_domain(text).then(|| text.to_owned()).ok_or_else(|| {
                        format!("{text:?} is no domain, expected one like example.org, in lower case and without a port")
                    })
                }),
                by_host: self.text("aws.url_form", |text| match text {
                    "auto" => Ok(None),
                    "host" => Ok(Some(true)),
                    "path" => Ok(Some(false)),
                    other => Err(format!(
                        "{other:?} is unknown, expected \"auto\", \"host\" or \"path\""
                    )),
                }),
            },
        }
    }

    /// A service like AWS's that the section names, if it names one.
    fn service(&mut self, section: &str, region_of_all: &str) -> Option<Service> {
        let key = |name: &str| format!("{section}.{name}");
        let secret = key("secret_key");
        let endpoint = self.text(&key("endpoint"), |text| match text {
            "" => Ok(None),
            url => service_endpoint(url, &secret).map(Some),
        });
        let access_key = self.text(&key("access_key"), |text| {
            let good = text.chars().all(|c| c.is_ascii_graphic() && c != ',');
            good.then(|| text.to_owned())
                .ok_or_else(|| "has characters that no access key has".into())
        });
        let service = Service {
            endpoint: endpoint.clone().unwrap_or_default(),
            secret_key: self.text(&secret, |text| Ok(text.to_owned())),
            region: self.text(&key("region"), |text| match text {
                "" => Ok(region_of_all.to_owned()),
                text => region(text),
            }),
            timeout: self.time(&key("timeout")),
            access_key,
        };
        endpoint.as_ref()?;
        for (key, value) in [
            (key("access_key"), &service.access_key),
            (secret, &service.secret_key),
        ] {
            if value.is_empty() {
                let what = format!("is empty, but {section}.endpoint is given");
                let origin = &self.values.get(&key).origin;
                self.faults.push(Fault::of(&key, origin, what));
            }
        }
        Some(service)
    }

    fn traces(&mut self) -> Option<Traces> {
        let endpoint = self.text("traces.endpoint", |text| match text {
            "" => Ok(None),
            url => endpoint(url).map(Some),
        });
        let traces = Traces {
            endpoint: endpoint.clone().unwrap_or_default(),
            headers: self.value("traces.headers", headers),
            timeout: self.time("traces.timeout"),
            service: self.text("traces.service", |text| match text {
                "" => Err("is empty, expected a name".into()),
                name => Ok(name.to_owned()),
            }),
            ratio: self.value("traces.ratio", |value| {
                let ratio = value.as_float().expect("typed by its default");
                let good = (0.0..=1.0).contains(&ratio);
                good.then_some(ratio)
                    .ok_or_else(|| format!("{ratio} is out of range, expected 0.0 to 1.0"))
            }),
            queue: self.whole("traces.queue", 1..=1_000_000),
        };
        endpoint.map(|_| traces)
    }

    fn time(&mut self, key: &str) -> Duration {
        self.text(key, |text| match duration(text)? {
            Duration::ZERO => Err("is zero, expected more".into()),
            time => Ok(time),
        })
    }

    fn time_or_zero(&mut self, key: &str) -> Duration {
        self.text(key, duration)
    }

    /// Two whole numbers of which the first must not be larger. Silent when one of them is faulty already.
    fn in_order(&mut self, low: &str, high: &str) {
        let faulty = |key: &str| self.faults.iter().any(|f| f.key.as_deref() == Some(key));
        if faulty(low) || faulty(high) {
            return;
        }
        let (low, high) = (self.values.get(low), self.values.get(high));
        if low.value.as_integer() > high.value.as_integer() {
            let (key, value, limit) = (&high.key, &low.value, &high.value);
            let what = format!(
                "{value} is more than {key}, which is {limit} ({})",
                high.origin
            );
            self.faults.push(Fault::of(&low.key, &low.origin, what));
        }
    }
}

/// Shorter ones would be lost to a busy processor, longer ones keep a dead process's permits for too long.
fn lease(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let good = (Duration::from_millis(500)..=Duration::from_secs(600)).contains(&time);
    good.then_some(time)
        .ok_or_else(|| format!("{text:?} is out of range, expected 500ms to 10m"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected one like 250ms, 30s, 10m or 1h";
    let signed: jiff::SignedDuration = text
        .trim()
        .parse()
        .map_err(|_ignored| format!("{text:?} is no duration, {expected}"))?;
    let time = Duration::try_from(signed)
        .map_err(|_ignored| format!("{text:?} is negative, {expected}"))?;
    match time <= LONGEST {
        true => Ok(time),
        false => Err(format!("{text:?} is too long, expected at most a year")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1.5s", 1500),
            ("1h 30m", 5_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "30", "soon", "-5s", "5s ago", "9000h 0", "99999999h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_collector_is_where_its_url_says() {
        for (url, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://o.example/", "https://o.example/v1/traces"),
            ("https://o.example/own/path", "https://o.example/own/path"),
        ] {
            assert_eq!(endpoint(url).as_deref(), Ok(whole));
        }
        for bad in [
            "127.0.0.1:4318",
            "grpc://o.example:4317",
            "http://",
            "http://:4318/",
            "http://user:secret@o.example/",
            "http://o.example/a b",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bucket_store_is_a_host_and_perhaps_a_path() {
        for (url, kept) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("https://s3.example/", "https://s3.example"),
            ("https://o.example/own/s3/", "https://o.example/own/s3"),
        ] {
            let at = service_endpoint(url, "aws.s3.secret_key");
            assert_eq!(at.as_deref(), Ok(kept));
        }
        for bad in [
            "s3.example",
            "s3://code",
            "http://",
            "http://key:secret@s3.example",
            "http://s3.example/?x=1",
            "http://s3.example#x",
        ] {
            let said = service_endpoint(bad, "aws.s3.secret_key").expect_err(bad);
            assert!(!said.contains("key:secret"), "{said}");
        }
    }

    #[test]
    fn headers_are_pairs_and_their_values_are_not_told() {
        let list = |items: &[&str]| headers(&Value::from(items.to_vec()));
        let pair = ("x-key".to_owned(), "a=b c".to_owned());
        assert_eq!(list(&["x-key = a=b c"]), Ok(vec![pair]));
        for bad in ["secret", "=secret", "a b=secret", "a=secret\u{1}x"] {
            let said = list(&["ok=1", bad]).expect_err("is refused");
            assert!(
                said.contains("number 2") && !said.contains("secret"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_lease_is_neither_too_short_nor_too_long() {
        assert_eq!(lease("2s"), Ok(Duration::from_secs(2)));
        for bad in ["0s", "499ms", "11m", "long"] {
            assert!(lease(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_module_name() {
        for good in [
            "info",
            "DEBUG",
            "off",
            "hearth=debug",
            "warn,hearth::pool=trace",
        ] {
            assert!(level(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "hearth=loud", "info,debug", "=,="] {
            assert!(level(bad).is_err(), "{bad:?}");
        }
    }
}
