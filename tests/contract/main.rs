//! Every runtime under `runtimes/` keeps the contract of `runtimes/_contract/`: over a bare socket and in its image. The cases are
//! data; adding a language adds no line here.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy exempts test functions by itself, but not the functions they share"
)]

#[path = "../built.rs"]
mod built;
mod case;
mod check;
mod image;
mod latency;
mod log;
mod play;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use hearth::runtime::manifest::{self, Manifest};
use hearth::worker::frame::Kind;

use crate::case::{Case, Needs, NotApplicable};
use crate::image::Holder;
use crate::worker::{Place, Worker};

fn runtimes_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes")
}

fn runtimes() -> Result<Vec<Manifest>> {
    let mut found = manifest::read_all(&runtimes_folder())?;
    if let Ok(only) = std::env::var("CONTRACT_RUNTIME") {
        found.retain(|manifest| manifest.answers_to(&only));
    }
    anyhow::ensure!(!found.is_empty(), "no runtime was found");
    for manifest in &found {
        built::built(manifest)?;
        built::build(&manifest.folder.join("contract"))?;
    }
    Ok(found)
}

/// The contract's cases that apply, then the ones the runtime adds about its own language.
fn cases_for(manifest: &Manifest) -> Result<Vec<Case>> {
    let contract = case::read_folder(&runtimes_folder().join("_contract"))?;
    let own = case::read_folder(&manifest.folder.join("contract"))?;
    for NotApplicable { case, why } in &own.not_applicable {
        anyhow::ensure!(
            contract.cases.iter().any(|known| &known.name == case),
            "the contract has no case {case:?} that could not apply to {}",
            manifest.id
        );
        println!("{}: not applicable, {why}: {case}", manifest.id);
    }
    let applies = |case: &Case| {
        let mut others = own.not_applicable.iter();
        others.all(|other| other.case != case.name)
    };
    let mut cases = contract.cases;
    cases.retain(applies);
    cases.extend(own.cases);
    // Neighbours can share a worker; a stable sort keeps the order otherwise.
    cases.sort_by(|a, b| a.worker().cmp(&b.worker()));
    Ok(cases)
}

#[test]
fn every_runtime_keeps_the_contract_over_a_bare_socket() -> Result<()> {
    check_all(|manifest| check_runtime(manifest, Place::Bare))
}

#[test]
fn every_runtime_keeps_the_contract_in_its_image() -> Result<()> {
    image::require_engine()?;
    check_all(|manifest| {
        image::build(manifest)?;
        let holder = Holder::start(manifest)?;
        check_runtime(manifest, Place::Image(&holder))
    })
}

/// What a first deploy shows: the template under its default handler, greeting whoever it is told about.
#[test]
fn every_template_greets() -> Result<()> {
    for manifest in runtimes()? {
        let case = Case::of_handler("the template", &manifest.default_handler);
        let mut worker = Worker::start(&manifest, Place::Bare, "template", None)?;
        play::specialise(&mut worker, &case).with_context(|| manifest.id.to_string())?;
        let (payload, id) = (br#"{"name":"Ada"}"#, "01234567-89ab-cdef-0123-456789abcdef");
        worker.send(
            Kind::Invoke,
            1,
            &play::invoke_body(id, u64::MAX, "", payload)?,
        )?;
        let answer = worker.receive()?;
        anyhow::ensure!(
            answer.kind == Kind::ResponseEnd,
            "{}: {answer:?}",
            manifest.id
        );
        let said: serde_json::Value = serde_json::from_slice(&answer.body)?;
        assert_eq!(said["message"], "Hello, Ada!", "{}", manifest.id);
        assert_eq!(said["request_id"], id, "{}", manifest.id);
        worker.log.drain();
        // Some runtimes say when and for whom before it.
        let lines = worker.log.lines();
        let greets = lines.iter().all(|line| line.ends_with("greeting Ada"));
        assert!(lines.len() == 1 && greets, "{}: {lines:?}", manifest.id);
    }
    Ok(())
}

/// The runtimes side by side, at most two at a time: the engine is slow enough with two.
fn check_all(check: impl Fn(&Manifest) -> Result<Vec<String>> + Sync) -> Result<()> {
    let found = runtimes()?;
    let queue = Mutex::new(found.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no panic holds it").next();
                    let Some(manifest) = next else { return };
                    let failed = check(manifest)
                        .unwrap_or_else(|error| vec![format!("{}: {error:#}", manifest.id)]);
                    failures.lock().expect("no panic holds it").extend(failed);
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic holds it");
    assert!(
        failures.is_empty(),
        "the contract is broken:\n  {}",
        failures.join("\n  ")
    );
    Ok(())
}

fn check_runtime(manifest: &Manifest, place: Place<'_>) -> Result<Vec<String>> {
    let cases = cases_for(manifest)?;
    let (mut failures, mut skipped, mut workers) = (Vec::new(), 0, 0);
    let mut kept: Option<(Worker, &Case)> = None;
    for case in &cases {
        let missing = match case.needs {
            Some(Needs::MemoryLimit) => Some("a bare process has no memory limit"),
            Some(Needs::AnotherUser) => Some("a bare process may be root's"),
            None => None,
        };
        if let (Place::Bare, Some(missing)) = (place, missing) {
            println!("{} {place}: skipped, {missing}: {}", manifest.id, case.name);
            skipped += 1;
            continue;
        }
        let shared = kept
            .take()
            .filter(|(_, last)| last.worker() == case.worker() && !case.fresh && !case.init.skip);
        let played = match shared {
            Some((worker, _)) => Ok(worker),
            None => {
                workers += 1;
                start(manifest, place, case)
            }
        }
        .and_then(|mut worker| play::play(&mut worker, case).map(|()| worker));
        match played {
            Ok(worker) if case.leaves_worker() => kept = Some((worker, case)),
            Ok(_) => {}
            Err(error) => {
                println!("{} {place}: FAILED: {}: {error:#}", manifest.id, case.name);
                failures.push(format!("{} {place}: {}: {error:#}", manifest.id, case.name));
            }
        }
    }
    println!(
        "{} {place}: {} cases with {workers} workers, {} failed, {skipped} skipped",
        manifest.id,
        cases.len(),
        failures.len()
    );
    Ok(failures)
}

fn start(manifest: &Manifest, place: Place<'_>, case: &Case) -> Result<Worker> {
    let mut worker = Worker::start(manifest, place, &case.code, case.layers.as_deref())
        .context("starting a worker")?;
    if !case.init.skip {
        play::specialise(&mut worker, case).context("INIT")?;
    }
    Ok(worker)
}
