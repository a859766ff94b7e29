//! The JSON documents of the control API, as clients read them and as the OpenAPI document describes them. What a client may
//! send is checked by `change`, which a test holds to the fields named here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::control::urls::FunctionUrlDocument;
use crate::domain::destination::Destination;
use crate::domain::function::{Code, Function, Network, Origin};
use crate::domain::id::VersionDigest;
use crate::domain::image::Image;
use crate::domain::version::Published;
use crate::runtime::manifest::{Manifest, Source};
use crate::scheduler::Target;

/// A function as it is deployed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Function)]
pub struct FunctionDocument<'a> {
    /// Made at creation, never reused; good wherever the name is.
    id: &'a str,
    name: &'a str,
    /// The runtime's id.
    language: &'a str,
    handler: &'a str,
    /// Seconds.
    timeout: u32,
    /// MiB.
    memory: u32,
    /// Names; every value is shown as `****`.
    #[schema(value_type = BTreeMap<String, String>)]
    environment: BTreeMap<&'a str, &'static str>,
    description: &'a str,
    tags: &'a BTreeMap<String, String>,
    #[schema(required = true)]
    route: Option<&'a str>,
    #[schema(required = true)]
    max_concurrency: Option<u32>,
    #[schema(required = true)]
    reserved_concurrency: Option<u32>,
    #[schema(required = true)]
    max_retries: Option<u32>,
    #[schema(required = true)]
    max_event_age: Option<u32>,
    #[schema(value_type = Option<String>, required = true)]
    on_success: Option<&'a Destination>,
    #[schema(value_type = Option<String>, required = true)]
    on_failure: Option<&'a Destination>,
    #[schema(value_type = NetworkChoice)]
    network: Network,
    code: CodeDocument<'a>,
    /// `name:number`, in their order: of two that have a file of one name, the later one's is there.
    #[schema(value_type = Vec<String>)]
    layers: Vec<String>,
    /// Digest of the code and of every setting a worker is started with; `x-hearth-version` of an answer is its beginning.
    version: &'a str,
    /// Grows by one with every change; also the entity tag.
    revision: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
    /// Where it is called, on this server.
    url: String,
    /// Where it answers plain HTTP beside its route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    function_urls: Vec<FunctionUrlDocument<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Code)]
pub struct CodeDocument<'a> {
    /// Of the zip, in hex.
    sha256: &'a str,
    /// Of the zip, in bytes.
    size: u64,
    origin: OriginDocument,
    /// Where on the server it was packed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    path: Option<String>,
    /// What runs instead of a package, which only notes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    image: Option<ImageDocument<'a>>,
}

/// The image a function is made of. What it says may be sent as it is to have the same image again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Image)]
pub struct ImageDocument<'a> {
    /// As it was given.
    uri: &'a str,
    /// Which one that was, whatever has the name today.
    id: &'a str,
    /// Instead of the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    entrypoint: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    command: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    working_dir: Option<&'a str>,
}

impl<'a> ImageDocument<'a> {
    fn of(image: &'a Image) -> Self {
        let settings = &image.settings;
        Self {
            uri: &image.uri,
            id: &image.built.id,
            entrypoint: settings.entrypoint.as_deref(),
            command: settings.command.as_deref(),
            working_dir: settings.working_dir.as_deref(),
        }
    }
}

/// How code came in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Origin)]
enum OriginDocument {
    Inline,
    Zip,
    Path,
    Image,
}

impl<'a> CodeDocument<'a> {
    pub fn of(code: &'a Code) -> Self {
        let document = Self {
            sha256: &code.sha256,
            size: code.size,
            origin: OriginDocument::Zip,
            path: None,
            image: None,
        };
        match &code.origin {
            Origin::Zip => document,
            Origin::Inline => Self {
                origin: OriginDocument::Inline,
                ..document
            },
            Origin::Path(path) => Self {
                origin: OriginDocument::Path,
                path: Some(path.to_string_lossy().into_owned()),
                ..document
            },
            Origin::Image(image) => Self {
                origin: OriginDocument::Image,
                image: Some(ImageDocument::of(image)),
                ..document
            },
        }
    }
}

impl<'a> FunctionDocument<'a> {
    pub fn of(target: &'a Target) -> Self {
        Self::new(&target.function, &target.digest).at(target.published())
    }

    /// The same with the URLs it has.
    pub fn at(self, published: &'a Published) -> Self {
        Self {
            function_urls: FunctionUrlDocument::all(published),
            ..self
        }
    }

    pub fn new(function: &'a Function, digest: &'a VersionDigest) -> Self {
        let asynchronous = &function.asynchronous;
        Self {
            id: function.id.as_str(),
            name: function.name.as_str(),
            language: function.runtime.as_str(),
            handler: &function.handler,
            timeout: function.timeout_seconds,
            memory: function.memory.0,
            environment: function.environment.masked(),
            description: &function.description,
            tags: &function.tags,
            route: function.route.as_deref(),
            max_concurrency: function.max_concurrency,
            reserved_concurrency: function.reserved_concurrency,
            max_retries: asynchronous.max_retries,
            max_event_age: asynchronous.max_event_age_seconds,
            on_success: asynchronous.on_success.as_ref(),
            on_failure: asynchronous.on_failure.as_ref(),
            network: function.network,
            code: CodeDocument::of(&function.code),
            layers: function
                .layers
                .iter()
                .map(|layer| layer.id.to_string())
                .collect(),
            version: digest.as_str(),
            revision: function.revision,
            created_at: function.created_at,
            updated_at: function.updated_at,
            url: format!("/functions/{}/execute", function.id),
            function_urls: Vec::new(),
        }
    }
}

/// A page of functions, in the order of their creation.
#[derive(Debug, Serialize, ToSchema)]
pub struct FunctionPage<'a> {
    pub items: Vec<FunctionDocument<'a>>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required = true)]
    pub next: Option<&'a str>,
}

// Describes what `change` reads, which says more about what is wrong than a derived reader could. A test holds the two together.
/// A function to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFunction {
    /// Letters, digits, `-` and `_`.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// A runtime's id or short name: see `/runtimes/`. Required but with an image.
    #[schema(nullable = false)]
    pub language: Option<String>,
    #[schema(nullable = false, inline)]
    pub code: Option<CodeSource>,
    /// Instead of `code`: a file or directory on the server, packed now.
    #[schema(nullable = false)]
    pub code_path: Option<String>,
    #[schema(nullable = false, inline)]
    pub image: Option<ImageSource>,
    /// Versions of layers, `name:number`, whose content is below `/opt`; at most 5, and of each layer one. What all of it holds together
    /// may be as large as one package.
    #[schema(nullable = false, max_items = 5)]
    pub layers: Option<Vec<String>>,
    /// `module.function`. With inline code it defaults to the runtime's own, and `module` names the file the code is written to; with
    /// a zip or a `code_path` it is required.
    #[schema(nullable = false, max_length = 128)]
    pub handler: Option<String>,
    /// Seconds the handler may take.
    #[schema(nullable = false, minimum = 1, maximum = 900, default = 3)]
    pub timeout: Option<u32>,
    /// MiB. Processor time is in proportion.
    #[schema(nullable = false, minimum = 128, maximum = 10240, default = 128)]
    pub memory: Option<u32>,
    /// Kept encrypted, and never shown. At most 4 KiB, names and values together. Names that begin with `HEARTH_` and the ones AWS reserves are refused.
    #[schema(nullable = false)]
    pub environment: Option<BTreeMap<String, String>>,
    #[schema(nullable = false, max_length = 256)]
    pub description: Option<String>,
    /// At most 50.
    #[schema(nullable = false)]
    pub tags: Option<BTreeMap<String, String>>,
    /// The path the function answers plain HTTP at, without a key: `/orders/{id}`, or with all that is left at the end, `/files/{proxy+}`.
    #[schema(max_length = 512)]
    pub route: Option<String>,
    /// Calls under way at once, over which 429 is answered; null is the account's limit, 0 refuses every call.
    #[schema(minimum = 0)]
    pub max_concurrency: Option<u32>,
    /// A part of the account's limit that only this function may use, and all it may use; null is none. A part of the limit has to
    /// stay for functions without one.
    #[schema(minimum = 0)]
    pub reserved_concurrency: Option<u32>,
    /// How often an asynchronous call that failed is tried again; null is the server's own.
    #[schema(minimum = 0, maximum = 2)]
    pub max_retries: Option<u32>,
    /// Seconds after which an asynchronous call is given up; null is the server's own.
    #[schema(minimum = 60, maximum = 21600)]
    pub max_event_age: Option<u32>,
    /// Who is sent the record of an asynchronous call that ended well: `function:NAME`, a URL that it is posted to, with a Redis store
    /// `stream:KEY`, or the ARN of a queue of SQS.
    #[schema(max_length = 1024)]
    pub on_success: Option<String>,
    /// And of one that was given up, which is then no dead letter.
    #[schema(max_length = 1024)]
    pub on_failure: Option<String>,
    #[schema(nullable = false, default = "none")]
    pub network: Option<NetworkChoice>,
}

/// A change of a function: what is left out keeps its value, null takes a route, a limit, a destination or another setting that may be null
/// away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionChange {
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// Only together with new code.
    #[schema(nullable = false)]
    pub language: Option<String>,
    #[schema(nullable = false, inline)]
    pub code: Option<CodeSource>,
    /// Instead of `code`: a file or directory on the server, packed now.
    #[schema(nullable = false)]
    pub code_path: Option<String>,
    #[schema(nullable = false, inline)]
    pub image: Option<ImageSource>,
    /// All of them: the list takes the old one's place. One that is there already stays, also when it was deleted.
    #[schema(nullable = false, max_items = 5)]
    pub layers: Option<Vec<String>>,
    /// Code that was given inline stays in the file it was written to: give the code again when the module changes.
    #[schema(nullable = false, max_length = 128)]
    pub handler: Option<String>,
    #[schema(nullable = false, minimum = 1, maximum = 900)]
    pub timeout: Option<u32>,
    #[schema(nullable = false, minimum = 128, maximum = 10240)]
    pub memory: Option<u32>,
    /// All of them: the map takes the old one's place. A value of `****`, as it is shown, keeps the value there is.
    #[schema(nullable = false)]
    pub environment: Option<BTreeMap<String, String>>,
    #[schema(nullable = false, max_length = 256)]
    pub description: Option<String>,
    /// All of them: the map takes the old one's place.
    #[schema(nullable = false)]
    pub tags: Option<BTreeMap<String, String>>,
    #[schema(max_length = 512)]
    pub route: Option<String>,
    #[schema(minimum = 0)]
    pub max_concurrency: Option<u32>,
    #[schema(minimum = 0)]
    pub reserved_concurrency: Option<u32>,
    #[schema(minimum = 0, maximum = 2)]
    pub max_retries: Option<u32>,
    #[schema(minimum = 60, maximum = 21600)]
    pub max_event_age: Option<u32>,
    #[schema(max_length = 1024)]
    pub on_success: Option<String>,
    #[schema(max_length = 1024)]
    pub on_failure: Option<String>,
    #[schema(nullable = false)]
    pub network: Option<NetworkChoice>,
    /// The revision the change was made from; the change is refused if there is a newer one. `If-Match` says the same.
    #[schema(nullable = false)]
    pub revision: Option<u64>,
}

/// Source text, or base64 of a zip, which is told from source by its beginning; an object says which it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CodeSource {
    Text(String),
    Inline { inline: String },
    Zip { zip: String },
}

/// Instead of `language`, `code`, `handler` and `layers`: the name of an image on the server, which brings its own client of AWS's Runtime API;
/// with what shall be started in it, if that is not what the image says. A change looks for it again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ImageSource {
    Name(String),
    Settings {
        uri: String,
        /// Which image it is, where the name may stand for another by now.
        #[schema(nullable = false)]
        id: Option<String>,
        #[schema(nullable = false, max_items = 1500)]
        entrypoint: Option<Vec<String>>,
        #[schema(nullable = false, max_items = 1500)]
        command: Option<Vec<String>>,
        #[schema(nullable = false, max_length = 1000)]
        working_dir: Option<String>,
    },
}

/// `none`: nothing but the worker's own loopback. `egress`: connections to the outside.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Network)]
pub enum NetworkChoice {
    None,
    Egress,
}

/// A runtime functions can be written for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Runtime)]
pub struct RuntimeDocument<'a> {
    id: &'a str,
    /// Short names `language` may use instead of the id.
    names: &'a [String],
    description: &'a str,
    /// The handler of inline code that names none.
    default_handler: &'a str,
    /// Of the file inline code is written to, which has the name of the handler's module.
    source_extension: Option<&'a str>,
    /// The file inline code is written to, as a program, whatever the handler.
    source_file: Option<&'a str>,
    /// Code to begin with.
    #[schema(required = true)]
    template: Option<String>,
}

impl<'a> RuntimeDocument<'a> {
    pub fn of(manifest: &'a Manifest) -> Self {
        let (source_extension, source_file) = match &manifest.source {
            Source::Module { extension } => (Some(extension.as_str()), None),
            Source::Program { file } => (None, Some(file.as_str())),
        };
        Self {
            id: manifest.id.as_str(),
            names: &manifest.names,
            description: &manifest.description,
            default_handler: &manifest.default_handler,
            source_extension,
            source_file,
            template: manifest
                .template()
                .and_then(|path| std::fs::read_to_string(path).ok()),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RuntimeList<'a> {
    pub items: Vec<RuntimeDocument<'a>>,
}
