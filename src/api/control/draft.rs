//! From a body to the function it makes: a new one, or the next revision of one there is. Everything that is wrong is found before
//! anything is written. Decodes and packs code, so it is called where blocking is allowed.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use crate::api::control::change::{self, Change, Faults, Source};
use crate::api::control::code::{self, Incoming, Package};
use crate::api::control::image;
use crate::api::error::Problem;
use crate::clock;
use crate::domain::environment::{Environment, MASK, Value, Variables};
use crate::domain::fault::Blame;
use crate::domain::function::{Code, Function, Network, Origin};
use crate::domain::id::FunctionId;
use crate::domain::key::{Denied, Grant, Scope};
use crate::domain::layer;
use crate::domain::limits::{ENVIRONMENT_MAX, Mebibytes};
use crate::domain::seldom::Seldom;
use crate::runtime::Catalog;
use crate::runtime::manifest::Manifest;
use crate::runtime::package::Places;
use crate::secrets::Secrets;

const TIMEOUT_SECONDS_DEFAULT: u32 = 3;
const MEMORY_DEFAULT: Mebibytes = Mebibytes(128);

/// What a function may be here.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub runtimes: &'a Catalog,
    pub account_concurrency: u32,
    /// Where code on the server may be read from.
    pub places: &'a Places,
    /// What whoever asks for it may do.
    pub caller: &'a Grant,
    /// What environments are encrypted with.
    pub secrets: &'a Secrets,
    /// The store has streams.
    pub streams: bool,
    /// The region of the queues that may be sent to, if there are any.
    pub queues: Option<&'a str>,
}

impl Rules<'_> {
    /// What only the body says: the name it shall have, and where on the server code is taken from. That can be any file the server
    /// reads, the admin key too, so it takes a key that can do everything anyway. An image is a part of the server as well, unless it was
    /// said to be for all.
    fn permit(&self, change: &Change, current: Option<&Function>) -> Result<(), Denied> {
        if let Some(name) = &change.name {
            self.caller.may_with(Scope::Deploy, name.as_str())?;
        }
        change.permit_destinations(self.caller)?;
        match &change.code {
            Some(Source::Image(wish)) if self.is_for_all(wish, current) => Ok(()),
            Some(Source::Path(_) | Source::Image(_)) => self.caller.may(Scope::Admin),
            _ => Ok(()),
        }
    }

    /// By an id, only the image that the function is made of by that name: else any could be had by any name.
    fn is_for_all(&self, wish: &image::Wish, current: Option<&Function>) -> bool {
        let named = self.places.images.iter().any(|p| p.matches(&wish.uri));
        let there = current.and_then(Function::image);
        let same = |id: &String| there.is_some_and(|i| i.uri == wish.uri && i.built.id == *id);
        named && wish.id.as_ref().is_none_or(same)
    }
}

/// A function ready to be written.
#[derive(Debug)]
pub struct Draft {
    pub function: Function,
    /// Its code, if it is new.
    pub package: Option<Package>,
    /// The image it shall be made of, if that is another. Which one it is is known only to the engine.
    pub image: Option<image::Wish>,
    /// The layers it shall have, if they are to be others. Which they are is known only to the store.
    pub layers: Option<Vec<layer::Id>>,
}

impl Draft {
    /// A new function.
    pub fn create(body: &[u8], rules: Rules<'_>) -> Result<Self, Problem> {
        let (change, faults) = change::read(body, rules.runtimes, rules.account_concurrency)?;
        Self::new(change, faults, rules)
    }

    /// The function that a change from nothing makes.
    pub fn new(mut change: Change, mut faults: Faults, rules: Rules<'_>) -> Result<Self, Problem> {
        rules.permit(&change, None)?;
        change.check_destinations(rules.streams, rules.queues, &mut faults);
        let source = change.code.take();
        let image = wished(&source);
        if image.is_some() {
            change.keep_to_image(&mut faults);
            change.runtime = rules.runtimes.of_images().cloned();
            if change.runtime.is_none() {
                faults.add(
                    image::FIELD,
                    "needs a runtime that can run images, and none is installed",
                );
            }
        }
        let given = [
            ("name", change.name.is_some()),
            (
                "language",
                change.runtime.is_some() || faults.has(image::FIELD),
            ),
            (
                "code",
                source.is_some() || faults.has("code_path") || faults.has(image::FIELD),
            ),
        ];
        for (field, given) in given {
            if !given && !faults.has(field) {
                faults.add(field, "is required");
            }
        }
        if change.revision.is_some() {
            faults.add("revision", "is for changes: a new function has none");
        }
        let runtime = change.runtime.clone();
        let default = match (&source, &runtime) {
            (Some(Source::Inline(_)), Some(runtime)) => Some(runtime.default_handler.clone()),
            // Until the image is known.
            (Some(Source::Image(_)), _) => Some(String::new()),
            (Some(Source::Zip(_) | Source::Fetched(_) | Source::Path(_)), _)
                if change.handler.is_none() && !faults.has("handler") =>
            {
                faults.add("handler", "is required unless the code is given inline");
                None
            }
            _ => None,
        };
        let handler = change.handler.clone().or(default);
        let package = packed(
            source,
            handler.as_deref(),
            runtime.as_deref(),
            rules,
            &mut faults,
        )?;
        let id = FunctionId::generate();
        let given = change.environment.take().unwrap_or_default();
        let environment = environment(given, &id, &Environment::default(), rules, &mut faults);
        faults.into_result()?;
        let required = "what is missing or wrong is a fault, and there was none";
        let code = match &package {
            Some(package) => package.code.clone(),
            None => {
                assert!(image.is_some(), "{required}");
                Code::unknown()
            }
        };
        let now = clock::wall();
        let blank = Function {
            id,
            name: change.name.clone().expect(required),
            revision: 1,
            runtime: runtime.expect(required).id.clone(),
            handler: handler.expect(required),
            timeout_seconds: TIMEOUT_SECONDS_DEFAULT,
            memory: MEMORY_DEFAULT,
            code,
            layers: Vec::new(),
            environment: environment.expect(required),
            description: String::new(),
            tags: BTreeMap::new(),
            route: None,
            max_concurrency: None,
            reserved_concurrency: None,
            asynchronous: Default::default(),
            network: Network::None,
            aws: Default::default(),
            created_at: now,
            updated_at: now,
        };
        Ok(Self {
            layers: change.layers.take(),
            function: settled(blank, change),
            package,
            image,
        })
    }

    /// The next revision of `current`.
    pub fn update(body: &[u8], current: &Function, rules: Rules<'_>) -> Result<Self, Problem> {
        let (change, faults) = change::read(body, rules.runtimes, rules.account_concurrency)?;
        Self::next(change, faults, current, rules)
    }

    /// What a change makes of `current`.
    pub fn next(
        mut change: Change,
        mut faults: Faults,
        current: &Function,
        rules: Rules<'_>,
    ) -> Result<Self, Problem> {
        // Its name may be another than when the request came in.
        let name = current.name.as_str();
        rules.caller.may_with(Scope::Deploy, name)?;
        rules.permit(&change, Some(current))?;
        change.check_destinations(rules.streams, rules.queues, &mut faults);
        let source = change.code.take();
        let image = wished(&source);
        match (current.image(), &source) {
            (Some(_), Some(Source::Image(_)) | None) => change.keep_to_image(&mut faults),
            (None, Some(Source::Image(_))) => faults.add(
                image::FIELD,
                "cannot take the place of code: an image is another function",
            ),
            (Some(_), Some(source)) => faults.add(
                source.field(),
                "cannot take the place of an image: code is another function",
            ),
            (None, _) => {}
        }
        let other = |runtime: &Arc<Manifest>| runtime.id != current.runtime;
        let needs_code = change.runtime.as_ref().is_some_and(other) && !change.keeps_code;
        if needs_code && source.is_none() && !faults.has("code") && !faults.has("language") {
            faults.add("language", "can be changed only together with the code");
        }
        let installed = rules.runtimes.find(current.runtime.as_str());
        let runtime = change.runtime.clone().or(installed.cloned());
        if runtime.is_none() && source.is_some() && !faults.has("language") {
            let gone = format!(
                "must be given: {} is not installed any more",
                current.runtime
            );
            faults.add("language", gone);
        }
        let handler = match faults.has("handler") {
            true => None,
            false => change.handler.as_deref().or(Some(&current.handler)),
        };
        let package = packed(source, handler, runtime.as_deref(), rules, &mut faults)?;
        let (id, there) = (&current.id, &current.environment);
        let environment = match change.environment.take() {
            Some(given) => environment(given, id, there, rules, &mut faults),
            None => Some(renewed(id, there, rules)),
        };
        faults.into_result()?;
        let environment =
            environment.expect("what is wrong with it is a fault, and there was none");
        if let Some(given) = change.revision
            && given != current.revision
        {
            return Err(Problem::Stale {
                given: given.to_string(),
                condition: false,
            });
        }
        let mut next = Function {
            revision: current.revision + 1,
            updated_at: clock::wall(),
            environment,
            ..current.clone()
        };
        if let Some(package) = &package {
            next.code = package.code.clone();
        }
        Ok(Self {
            layers: change.layers.take(),
            function: settled(next, change),
            package,
            image,
        })
    }

    /// The next revision of `current` with the code that is now where it came from; `None` if that is no place, or the same code.
    pub fn refresh(current: &Function, places: &Places) -> Result<Option<Self>, code::Error> {
        let Origin::Path(path) = &current.code.origin else {
            return Ok(None);
        };
        let package = code::pack(Incoming::Path(path.clone()), places)?;
        if package.code.sha256 == current.code.sha256 {
            return Ok(None);
        }
        let function = Function {
            revision: current.revision + 1,
            updated_at: clock::wall(),
            code: package.code.clone(),
            ..current.clone()
        };
        Ok(Some(Self {
            function,
            package: Some(package),
            image: None,
            layers: None,
        }))
    }
}

fn wished(source: &Option<Source>) -> Option<image::Wish> {
    match source {
        Some(Source::Image(wish)) => Some(wish.clone()),
        _ => None,
    }
}

/// Packs the code, if there is any and what it needs is right. Whatever is wrong with it joins the other faults.
fn packed(
    source: Option<Source>,
    handler: Option<&str>,
    runtime: Option<&Manifest>,
    rules: Rules<'_>,
    faults: &mut Faults,
) -> Result<Option<Package>, Problem> {
    let Some(source) = source else {
        return Ok(None);
    };
    let field = source.field();
    let code = match (source, handler, runtime) {
        (Source::Inline(text), Some(handler), Some(runtime)) => {
            match code::inline_file(handler, runtime) {
                Ok(file) => Incoming::Inline(text, file),
                Err(message) => {
                    faults.add("handler", message);
                    return Ok(None);
                }
            }
        }
        // Nowhere to write it to; the fault that caused this is there already.
        (Source::Inline(_), _, _) => return Ok(None),
        (Source::Zip(text), _, _) => Incoming::Zip(text),
        (Source::Fetched(zip), _, _) => Incoming::Fetched(zip),
        (Source::Path(path), _, _) => Incoming::Path(path),
        // What there is of it is known when it was found.
        (Source::Image(_), _, _) => return Ok(None),
    };
    match code::pack(code, rules.places) {
        Ok(package) => Ok(Some(package)),
        Err(code::Error::Package(error)) if error.blame() == Blame::Platform => {
            tracing::error!(%error, source = error.source(), "code could not be packed");
            Err(Problem::Internal)
        }
        Err(error) => {
            faults.add(field, error.to_string());
            Ok(None)
        }
    }
}

/// The environment to be written for the one that was given; `None` if something is wrong with it.
fn environment(
    given: Variables,
    id: &FunctionId,
    there: &Environment,
    rules: Rules<'_>,
    faults: &mut Faults,
) -> Option<Environment> {
    let secrets = rules.secrets;
    let mut size = 0;
    let mut environment = Environment::default();
    for (name, text) in given.0 {
        let kept = there.0.get(&name);
        let known = kept.and_then(|value| secrets.unseal_variable(id, &name, value).ok());
        let value = match (kept, text == MASK) {
            (None, true) => {
                let message =
                    format!("is {MASK:?}, which stands for the value there is, and there is none");
                faults.add(format!("environment.{name}"), message);
                return None;
            }
            (Some(value), masked) if masked || known.as_ref() == Some(&text) => {
                size += known.map_or(0, |text| text.len());
                secrets.renewed(id, &name, value)
            }
            _ => {
                size += text.len();
                secrets.seal_variable(id, &name, &text)
            }
        };
        size += name.len();
        environment.0.insert(name, value);
    }
    // Looked at when it was read too; but there a mask had the length of a mask.
    if size > ENVIRONMENT_MAX && !faults.has("environment") {
        faults.add("environment", change::too_large(size));
        return None;
    }
    Some(environment)
}

/// The environment there is, as it should be written now.
fn renewed(id: &FunctionId, there: &Environment, rules: Rules<'_>) -> Environment {
    let renew = |(name, value): (&String, &Value)| {
        let value = rules.secrets.renewed(id, name, value);
        (name.clone(), value)
    };
    Environment(there.0.iter().map(renew).collect())
}

/// `function` with everything the change names in its place.
fn settled(function: Function, change: Change) -> Function {
    let written = change.aws.is_some();
    // A runtime's name as AWS's client wrote it says nothing of another runtime.
    let other = change
        .runtime
        .as_ref()
        .is_some_and(|r| r.id != function.runtime);
    let asynchronous = change.asynchronous(&function.asynchronous);
    let mut aws = change.aws.map_or(function.aws, Seldom::from);
    if other && !written && aws.runtime.is_some() {
        aws.runtime = None;
    }
    Function {
        aws,
        name: change.name.unwrap_or(function.name),
        runtime: change.runtime.map_or(function.runtime, |r| r.id.clone()),
        handler: change.handler.unwrap_or(function.handler),
        timeout_seconds: change.timeout_seconds.unwrap_or(function.timeout_seconds),
        memory: change.memory.unwrap_or(function.memory),
        description: change.description.unwrap_or(function.description),
        tags: change.tags.unwrap_or(function.tags),
        route: change.route.unwrap_or(function.route),
        max_concurrency: change.max_concurrency.unwrap_or(function.max_concurrency),
        reserved_concurrency: change
            .reserved_concurrency
            .unwrap_or(function.reserved_concurrency),
        asynchronous: asynchronous.into(),
        network: change.network.unwrap_or(function.network),
        ..function
    }
}
