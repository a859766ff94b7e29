//! How a shared store's keys are spelt. Pure; the only place that knows.
//!
//! All keys carry one hash tag, `{hearth}`, so that on a Redis Cluster they share a slot and one node can check and change them in
//! one script. A tag per function would spread them, but names and routes are unique over all functions, and no script may look at
//! two slots. Definitions are small and rarely written: one node carries them easily, and calls never ask for them.

use crate::domain::id::FunctionId;
use crate::domain::layer;
use crate::store::change::Change;

/// Names which store this is; made with the first key.
pub const IDENTITY: &str = "{hearth}:identity";
/// The layout of these keys.
pub const FORMAT: &str = "{hearth}:format";
/// Id to function.
pub const FUNCTIONS: &str = "{hearth}:functions";
/// Id to what a script has to know of a function: see `head`.
pub const HEADS: &str = "{hearth}:heads";
/// Name to id.
pub const NAMES: &str = "{hearth}:names";
/// Shape of a route to id.
pub const ROUTES: &str = "{hearth}:routes";
/// Id to what is published of a function, but the versions themselves.
pub const HEADS_OF_VERSIONS: &str = "{hearth}:versions";
/// Id to the revision of that.
pub const REVISIONS_OF_VERSIONS: &str = "{hearth}:versions:revisions";
/// Before an id: a function's versions by their number.
pub const VERSIONS: &str = "{hearth}:versions:of:";
/// Before an id: the hashes of their code by their number.
pub const VERSION_CODE: &str = "{hearth}:versions:code:";
/// Name and number, `name:number`, to layer.
pub const LAYERS: &str = "{hearth}:layers";
/// Name to the highest number there ever was of a layer.
pub const LAYERS_LAST: &str = "{hearth}:layers:last";
/// Name and number to the hash of a layer's content.
pub const LAYERS_CODE: &str = "{hearth}:layers:code";
/// A function's id, or `id/number`, to the hashes of the layers it has.
pub const LAYERS_OF: &str = "{hearth}:layers:of";
/// Id to code signing configuration.
pub const SIGNINGS: &str = "{hearth}:signings";
/// A function's id to that of the configuration it has. With a configuration's id behind it, `:csc-…`: the ids of the functions that have it.
pub const SIGNED: &str = "{hearth}:signed";
/// Hashes of packages that wait for a function, by the place of the upload in their order.
pub const UPLOADS: &str = "{hearth}:uploads";
/// Id to API key.
pub const KEYS: &str = "{hearth}:keys";
/// Id to event source mapping.
pub const MAPPINGS: &str = "{hearth}:mappings";
/// Id to what a script has to know of one: revision and place.
pub const MAPPING_HEADS: &str = "{hearth}:mappings:heads";
/// Place, which is queue and function, to id.
pub const MAPPING_PLACES: &str = "{hearth}:mappings:places";
/// Counts changes of functions, keys and mappings.
pub const CHANGES: &str = "{hearth}:changes";
/// Where each change is announced. A channel, not a key.
pub const ANNOUNCED: &str = "{hearth}:changed";
/// The stream of events that nobody has yet or somebody has claimed.
pub const EVENTS: &str = "{hearth}:events";
/// Request ids of events that wait for their time, by that time.
pub const EVENTS_LATER: &str = "{hearth}:events:later";
/// Request ids of events that have an end, by the time of it.
pub const EVENTS_DONE: &str = "{hearth}:events:done";
/// The same of those that failed and whose payloads are kept.
pub const EVENTS_DEAD: &str = "{hearth}:events:dead";
/// Before a request id: what is known of an event.
pub const EVENT: &str = "{hearth}:event:";
/// Ids of keys of named calls, by the time they are forgotten.
pub const ANSWERS: &str = "{hearth}:answers";
/// Bytes of all answers to them.
pub const ANSWERS_BYTES: &str = "{hearth}:answers:bytes";
/// Before such an id: what is known of the call.
pub const ANSWER: &str = "{hearth}:answer:";
/// Before a package's hash: the package in pieces.
pub const CODE: &str = "{hearth}:code:";
/// Before a package's hash: who uses it, ids of functions and of versions, `id/number`, and layers, `layer:name:number`.
pub const USES: &str = "{hearth}:uses:";
/// Before a name of the writer's own: a package that is still arriving.
pub const STAGED: &str = "{hearth}:staged:";

/// Names of the processes that hold permits.
pub const PROCESSES: &str = "{hearth}:permits";
/// When the ledger of permits was last asked.
pub const LEDGER: &str = "{hearth}:permits:ledger";
/// Before a process's name: what it holds.
pub const PROCESS: &str = "{hearth}:permits:of:";
/// Before a process's name: the channel on which it is told to ask for permits again.
pub const TOLD: &str = "{hearth}:permits:told:";

/// How many pieces a package has, beside the pieces themselves, which are called by their number.
pub const PIECES: &str = "pieces";
/// Bytes in a piece. Redis does one thing at a time, and nobody should wait long for the others' code.
pub const PIECE_BYTES: usize = 1024 * 1024;

/// What is announced of a change: the new count, and what was changed.
pub fn read_announcement(text: &str) -> Option<(u64, Change)> {
    let mut words = text.split(' ');
    let count = words.next()?.parse().ok()?;
    let change = match (words.next()?, words.next(), words.next()) {
        ("function", Some(id), revision) => Change::Function {
            id: FunctionId::from_stored(id),
            revision: revision.map(str::parse).transpose().ok()?,
        },
        ("versions", Some(id), Some(revision)) => Change::Versions {
            id: FunctionId::from_stored(id),
            revision: revision.parse().ok()?,
        },
        ("keys", None, None) => Change::Keys,
        ("mappings", None, None) => Change::Mappings,
        // A newer version's.
        _ => Change::Anything,
    };
    Some((count, change))
}

pub fn code(sha256: &str) -> String {
    format!("{CODE}{sha256}")
}

pub fn versions(id: &FunctionId) -> String {
    format!("{VERSIONS}{id}")
}

/// A layer among the users of packages. No function's id has a colon in it.
pub fn layer_user(id: &layer::Id) -> String {
    format!("layer:{id}")
}

pub fn staged(name: &str) -> String {
    format!("{STAGED}{name}")
}

/// Whether this is a SHA-256 as it is written here. What is not never becomes part of a key.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What scripts compare, as a JSON list of texts: a script has only floating-point numbers, which would round a revision.
pub fn head(revision: u64, name: &str, sha256: &str, shape: Option<&str>) -> String {
    let revision = revision.to_string();
    let list: Vec<&str> = [&revision, name, sha256].into_iter().chain(shape).collect();
    serde_json::to_string(&list).expect("texts are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of a key that decides its slot.
    fn tag(key: &str) -> Option<&str> {
        key.split_once('{')?.1.split_once('}').map(|(tag, _)| tag)
    }

    #[test]
    fn all_keys_share_a_slot() {
        let (code, staged) = (code("}{x}"), staged("{y}"));
        for key in [
            IDENTITY,
            FORMAT,
            FUNCTIONS,
            HEADS,
            NAMES,
            ROUTES,
            UPLOADS,
            KEYS,
            CHANGES,
            CODE,
            USES,
            STAGED,
            &code,
            &staged,
            EVENTS,
            EVENTS_LATER,
            EVENTS_DONE,
            EVENTS_DEAD,
            EVENT,
            ANSWERS,
            ANSWERS_BYTES,
            ANSWER,
            PROCESSES,
            LEDGER,
            PROCESS,
            TOLD,
            HEADS_OF_VERSIONS,
            REVISIONS_OF_VERSIONS,
            VERSIONS,
            VERSION_CODE,
            LAYERS,
            LAYERS_LAST,
            LAYERS_CODE,
            LAYERS_OF,
            SIGNINGS,
            SIGNED,
            MAPPINGS,
            MAPPING_HEADS,
            MAPPING_PLACES,
        ] {
            assert_eq!(tag(key), Some("hearth"), "{key}");
        }
    }

    #[test]
    fn an_announcement_says_what_was_changed() {
        let function = |revision| Change::Function {
            id: FunctionId::from_stored("a-b"),
            revision,
        };
        let versions = |revision| Change::Versions {
            id: FunctionId::from_stored("a-b"),
            revision,
        };
        for (text, read) in [
            ("7 function a-b 3", Some((7, function(Some(3))))),
            ("8 function a-b", Some((8, function(None)))),
            ("8 versions a-b 4", Some((8, versions(4)))),
            ("9 keys", Some((9, Change::Keys))),
            ("9 mappings", Some((9, Change::Mappings))),
            ("10 something new", Some((10, Change::Anything))),
            ("11", None),
            ("x keys", None),
            ("1 function a-b x", None),
            ("1 versions a-b x", None),
        ] {
            assert_eq!(read_announcement(text), read, "{text}");
        }
    }

    #[test]
    fn only_hashes_are_hashes() {
        let good = "0123456789abcdef".repeat(4);
        assert!(is_hash(&good));
        for bad in [
            "",
            "x",
            &good[1..],
            &format!("{good}0"),
            &good.to_uppercase(),
        ] {
            assert!(!is_hash(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_head_keeps_every_digit_and_says_when_there_is_no_route() {
        let read = |text: String| serde_json::from_str::<Vec<String>>(&text).expect("is a list");
        let most = u64::MAX.to_string();
        assert_eq!(read(head(u64::MAX, "f", "0", None)), [&most, "f", "0"]);
        assert_eq!(read(head(1, "\"", "0", Some("")))[1..], ["\"", "0", ""]);
    }
}
