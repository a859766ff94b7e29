//! What may be published, deleted and pointed at.

use super::*;
use crate::domain::aws::{Logging, Settings};
use crate::domain::layer::{Attached, Content};
use crate::store::suite::{function, next};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("is a time")
}

fn name(text: &str) -> AliasName {
    AliasName::parse(text).expect("is a name")
}

fn to(version: VersionId) -> Wish {
    Wish {
        version: Some(version),
        ..Wish::default()
    }
}

/// As many versions as wanted, each of another description.
fn published(count: u64) -> (Function, Published) {
    let mut latest = function("f", &"0".repeat(64));
    let mut all = Published::none(latest.id.clone());
    for n in 1..=count {
        latest = Function {
            description: n.to_string(),
            ..next(&latest)
        };
        all = new(&all, &latest);
    }
    (latest, all)
}

fn new(all: &Published, function: &Function) -> Published {
    match all.publish(function, None, now()) {
        Ok(Outcome::New(_, edit)) => all.after(edit),
        other => unreachable!("something was changed: {other:?}"),
    }
}

#[test]
fn a_version_is_a_copy_and_the_same_again_is_none() {
    let (latest, one) = published(1);
    assert_eq!(one.versions[&1].function, latest);
    assert_eq!(
        (one.revision(), one.versions[&1].description.as_str()),
        (1, "1")
    );
    let renamed = Function {
        name: crate::domain::id::FunctionName::parse("g").expect("is a name"),
        tags: [("a".to_owned(), "b".to_owned())].into(),
        reserved_concurrency: Some(3),
        ..next(&latest)
    };
    let same = one.publish(&renamed, Some("other".into()), now());
    assert_eq!(same, Ok(Outcome::Unchanged(one.versions[&1].clone())));
    let other = Function {
        timeout_seconds: 9,
        ..renamed
    };
    let two = new(&one, &other);
    assert_eq!(two.versions.keys().collect::<Vec<_>>(), [&1, &2]);
    assert_eq!(two.versions[&1], one.versions[&1], "never changed");
}

#[test]
fn a_number_is_never_used_again() {
    let (latest, two) = published(2);
    let edit = two.delete_version(2).expect("nobody uses it");
    let one = two.after(edit);
    assert_eq!(
        one.publish(&latest, None, now())
            .map(|outcome| match outcome {
                Outcome::New(version, _) => version.number,
                Outcome::Unchanged(_) => 0,
            }),
        Ok(3),
        "the last one is gone, so there is nothing that is the same"
    );
    assert_eq!(one.delete_version(2), Err(Refused::NoVersion(2)));
}

#[test]
fn a_version_an_alias_points_at_stays() {
    let (_, all) = published(3);
    let wish = Wish {
        second: Some(Some(Second {
            version: 2,
            weight: 0.25,
        })),
        ..to(VersionId::Number(1))
    };
    let (alias, edit) = all
        .create_alias(name("live"), wish, now())
        .expect("is right");
    assert_eq!(alias.revision, 1);
    let all = all.after(edit);
    for number in [1, 2] {
        let by = vec!["live".to_owned()];
        assert_eq!(
            all.delete_version(number),
            Err(Refused::InUse { number, by })
        );
    }
    assert!(all.delete_version(3).is_ok());
    let moved = all.update_alias("live", to(VersionId::Number(3)), now());
    let (alias, edit) = moved.expect("is right");
    assert_eq!((alias.revision, alias.second.is_some()), (2, true));
    let all = all.after(edit);
    assert!(all.delete_version(1).is_ok());
    let alone = Wish {
        second: Some(None),
        revision: Some(2),
        ..Wish::default()
    };
    let (alias, _) = all
        .update_alias("live", alone.clone(), now())
        .expect("is right");
    assert_eq!((alias.version, alias.second), (VersionId::Number(3), None));
    let late = Wish {
        revision: Some(1),
        ..alone
    };
    assert_eq!(
        all.update_alias("live", late, now()),
        Err(Refused::Stale(1))
    );
    assert_eq!(all.delete_alias("live", Some(1)), Err(Refused::Stale(1)));
    let none = all.after(all.delete_alias("live", Some(2)).expect("it is"));
    assert!(none.alias("live").is_none());
    assert_eq!(
        none.delete_alias("live", None),
        Err(Refused::NoAlias("live".into()))
    );
}

#[test]
fn an_alias_points_at_what_is_there() {
    let (_, all) = published(2);
    let with = |version, second: Option<(u64, f64)>| Wish {
        second: Some(second.map(|(version, weight)| Second { version, weight })),
        ..to(version)
    };
    let refused = |wish: Wish| {
        all.create_alias(name("a"), wish, now())
            .expect_err("is refused")
    };
    let one = VersionId::Number(1);
    assert_eq!(refused(to(VersionId::Number(7))), Refused::NoVersion(7));
    assert_eq!(refused(with(one, Some((9, 0.5)))), Refused::NoVersion(9));
    for (version, second) in [
        (one, (1, 0.5)),
        (one, (2, 1.5)),
        (one, (2, -0.1)),
        (one, (2, f64::NAN)),
        (VersionId::Latest, (2, 0.5)),
    ] {
        let refused = refused(with(version, Some(second)));
        assert!(
            matches!(
                refused,
                Refused::Invalid {
                    field: "second",
                    ..
                }
            ),
            "{version} {second:?}: {refused}"
        );
    }
    assert!(matches!(
        refused(Wish::default()),
        Refused::Invalid {
            field: "version",
            ..
        }
    ));
    for right in [
        to(VersionId::Latest),
        with(one, Some((2, 0.0))),
        with(one, Some((2, 1.0))),
    ] {
        all.create_alias(name("a"), right, now()).expect("is right");
    }
}

#[test]
fn a_qualifier_is_read_as_it_is_written() {
    let number = |n| Ok(Qualifier::Version(VersionId::Number(n)));
    assert_eq!(
        Qualifier::parse("$LATEST"),
        Ok(Qualifier::Version(VersionId::Latest))
    );
    assert_eq!(Qualifier::parse("12"), number(12));
    let longest = u64::MAX.to_string();
    assert_eq!(Qualifier::parse(&longest), number(u64::MAX));
    assert_eq!(
        Qualifier::parse("v1-live_2"),
        Ok(Qualifier::Alias(name("v1-live_2")))
    );
    for wrong in [
        "",
        "0",
        "01",
        "$latest",
        "a.b",
        "a b",
        "é",
        &format!("{longest}0"),
        &"x".repeat(129),
    ] {
        Qualifier::parse(wrong).expect_err(wrong);
    }
}

#[test]
fn versions_with_the_same_settings_have_digests_of_their_own() {
    let (latest, _) = published(1);
    let digests = [
        latest.digest(),
        latest.digest_as(VersionId::Number(1)),
        latest.digest_as(VersionId::Number(2)),
    ];
    assert_eq!(digests[0], latest.digest_as(VersionId::Latest));
    let different: std::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(different.len(), 3);
}

#[test]
fn what_workers_are_told_of_their_log_is_part_of_the_digest() {
    let latest = function("f", &"0".repeat(64));
    let with = |logging: Logging| Function {
        aws: Settings {
            logging: Some(logging),
            ..Settings::default()
        }
        .into(),
        ..latest.clone()
    };
    let json = Logging {
        format: Some("JSON".into()),
        ..Logging::default()
    };
    let debug = Logging {
        application_level: Some("DEBUG".into()),
        ..json.clone()
    };
    let group = Logging {
        group: Some("/mine".into()),
        ..Logging::default()
    };
    let text = Logging {
        format: Some("Text".into()),
        system_level: Some("WARN".into()),
        ..Logging::default()
    };
    assert_eq!(with(text).digest(), latest.digest());
    let all = [json, debug, group].map(|logging| with(logging).digest());
    let digests: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(digests.len(), 3);
    assert!(!digests.contains(&latest.digest()));
}

#[test]
fn layers_and_their_order_are_part_of_the_digest_and_of_a_version() {
    let (latest, _) = published(1);
    let with = |hashes: &[&str]| {
        let attached = hashes.iter().map(|hash| Attached {
            id: format!("{hash}:1").parse().expect("an id"),
            content: Content {
                sha256: hash.repeat(64),
                size: 1,
                unpacked_size: 1,
            },
        });
        Function {
            layers: attached.collect(),
            ..latest.clone()
        }
    };
    let all = [
        with(&[]),
        with(&["a"]),
        with(&["b"]),
        with(&["a", "b"]),
        with(&["b", "a"]),
    ];
    let digests: std::collections::BTreeSet<_> = all.iter().map(Function::digest).collect();
    assert_eq!(digests.len(), all.len());
    assert_eq!(all[0].digest(), latest.digest());
    for other in &all[1..] {
        assert!(!latest.runs_like(other));
    }
    assert!(all[3].runs_like(&with(&["a", "b"])));
    let packages: Vec<_> = all[4].packages().collect();
    assert_eq!(
        packages,
        [latest.code.sha256.clone(), "b".repeat(64), "a".repeat(64)]
    );
}

#[test]
fn workers_are_kept_for_a_version_or_for_what_an_alias_points_at() {
    let (_, all) = published(3);
    let wish = Wish {
        second: Some(Some(Second {
            version: 2,
            weight: 0.3,
        })),
        ..to(VersionId::Number(1))
    };
    let (_, edit) = all
        .create_alias(name("live"), wish, now())
        .expect("is right");
    let mut all = all.after(edit);
    let (_, edit) = all
        .create_alias(name("edge"), to(VersionId::Latest), now())
        .expect("is right");
    all = all.after(edit);
    let of = |text: &str| Qualifier::parse(text).expect("is one");
    for (qualifier, count) in [("live", 10), ("2", 4)] {
        let edit = all.provision(&of(qualifier), count, now());
        all = all.after(edit.expect("is right"));
    }
    assert_eq!(all.shares("live"), [(1, 7), (2, 3)]);
    assert_eq!(all.provisioned(), [(1, 7), (2, 7)].into());
    for qualifier in ["$LATEST", "edge"] {
        let refused = all.provision(&of(qualifier), 1, now());
        assert!(
            matches!(
                refused,
                Err(Refused::Invalid {
                    field: "qualifier",
                    ..
                })
            ),
            "{qualifier}: {refused:?}"
        );
    }
    assert_eq!(
        all.provision(&of("9"), 1, now()),
        Err(Refused::NoVersion(9))
    );
    assert_eq!(
        all.provision(&of("none"), 1, now()),
        Err(Refused::NoAlias("none".into()))
    );
    let alone = Wish {
        version: Some(VersionId::Latest),
        second: Some(None),
        ..Wish::default()
    };
    let refused = all.update_alias("live", alone, now());
    assert!(matches!(
        refused,
        Err(Refused::Invalid {
            field: "version",
            ..
        })
    ));
    let moved = Wish {
        second: Some(None),
        ..to(VersionId::Number(3))
    };
    let (_, edit) = all.update_alias("live", moved, now()).expect("is right");
    all = all.after(edit);
    assert_eq!(all.provisioned(), [(2, 4), (3, 10)].into());
    // It goes with what it is for.
    let gone = all.after(all.delete_version(2).expect("nobody uses it"));
    assert_eq!(gone.provisioned(), [(3, 10)].into());
    let gone = gone.after(gone.delete_alias("live", None).expect("it is there"));
    assert!(gone.provisioned().is_empty() && gone.head.provisioned.is_empty());
    let edit = all.unprovision("2").expect("it is there");
    all = all.after(edit);
    assert_eq!(
        all.unprovision("2"),
        Err(Refused::NotProvisioned("2".into()))
    );
}

#[test]
fn settings_for_events_are_a_versions_or_an_aliass_own() {
    let (_, one) = published(1);
    let (_, edit) = one
        .create_alias(name("live"), to(VersionId::Number(1)), now())
        .expect("is made");
    let all = one.after(edit);
    let retries = |count| Asynchronous {
        max_retries: Some(count),
        ..Asynchronous::default()
    };
    let set = |all: &Published, qualifier: &str, count| {
        let qualifier = Qualifier::parse(qualifier).expect("is one");
        let set = all.set_events(&qualifier, retries(count), now());
        set.map(|(_, edit)| all.after(edit))
    };
    assert_eq!(set(&all, "7", 1), Err(Refused::NoVersion(7)));
    assert_eq!(set(&all, "none", 1), Err(Refused::NoAlias("none".into())));
    let all = set(&all, "1", 1).expect("is set");
    let all = set(&all, "live", 2).expect("is set");
    let (one, live) = (VersionId::Number(1), name("live"));
    assert_eq!(all.events(one, None), Some(&retries(1)));
    assert_eq!(all.events(one, Some(&live)), Some(&retries(2)));
    assert_eq!(all.events(one, Some(&name("other"))), None);
    assert_eq!(all.events(VersionId::Latest, None), None);
    // They go with what they are of, or by themselves.
    let without = all.delete_alias("live", None).expect("is deleted");
    let without = all.after(without);
    assert_eq!(without.events(one, Some(&live)), None);
    let bare = without.delete_version(1).expect("is deleted");
    assert!(without.after(bare).head.events.is_empty());
    let unset = all.unset_events("1").expect("there are some");
    assert_eq!(all.after(unset).events(one, None), None);
    assert_eq!(all.unset_events("7"), None);
}
