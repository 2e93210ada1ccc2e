use std::fmt::Write as _;

use proptest::prelude::*;
use regex::Regex;

use super::super::query::{all, parameters, single};
use super::*;

const NAME: &str =
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*";
const DIGEST: &str = "(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|blake3:[a-f0-9]{64})";
const TAG: &str = "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}";
const ID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

/// The endpoints as the specification writes them, with the name of the route for `GET`.
fn grammar() -> Vec<(Regex, &'static str)> {
    [
        (r"/v2/?".to_owned(), "base"),
        (r"/v2/_catalog".to_owned(), "catalog"),
        (format!("/v2/({NAME})/tags/list"), "list_tags"),
        (format!("/v2/({NAME})/manifests/(?:{TAG}|{DIGEST})"), "get_manifest"),
        (format!("/v2/({NAME})/blobs/{DIGEST}"), "get_blob"),
        (format!("/v2/({NAME})/referrers/{DIGEST}"), "list_referrers"),
        (format!("/v2/({NAME})/blobs/uploads/{ID}"), "upload_status"),
    ]
    .map(|(pattern, name)| (Regex::new(&format!(r"\A{pattern}\z")).unwrap(), name))
    .into()
}

fn repository_name() -> impl Strategy<Value = RepositoryName> {
    let word = "([a-z0-9]{1,4}(\\.|_|__|-{1,3}))?[a-z0-9]{1,4}";
    let component = prop_oneof![
        Just("blobs".to_owned()),
        Just("uploads".to_owned()),
        Just("manifests".to_owned()),
        Just("tags".to_owned()),
        Just("list".to_owned()),
        Just("referrers".to_owned()),
        word,
    ];
    proptest::collection::vec(component, 1..5)
        .prop_map(|parts| RepositoryName::parse(&parts.join("/")).unwrap())
}

fn digest() -> impl Strategy<Value = Digest> {
    (proptest::sample::select(&Algorithm::ALL), any::<[u8; 4]>())
        .prop_map(|(algorithm, seed)| Digest::of(algorithm, &seed))
}

fn tag() -> impl Strategy<Value = Tag> {
    "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9}".prop_map(|text| Tag::parse(&text).unwrap())
}

fn page() -> impl Strategy<Value = PageQuery> {
    any::<(Option<u32>, Option<String>)>().prop_map(|(n, last)| PageQuery { n, last })
}

fn id() -> impl Strategy<Value = UploadId> {
    any::<[u8; 16]>().prop_map(UploadId::from_random)
}

fn reference() -> impl Strategy<Value = Reference> {
    prop_oneof![tag().prop_map(Reference::Tag), digest().prop_map(Reference::Digest)]
}

/// Any route with a method of its own.
fn route() -> impl Strategy<Value = Route> {
    let name = repository_name;
    let distinct_tags = || {
        proptest::collection::vec(tag(), 0..12).prop_map(|mut tags| {
            tags.sort();
            tags.dedup();
            tags
        })
    };
    let types = proptest::collection::btree_set("[ -~]{1,9}", 0..4);
    let algorithm = || proptest::sample::select(&Algorithm::ALL);
    prop_oneof![
        Just(Route::Base),
        page().prop_map(|page| Route::Catalog { page }),
        (name(), page()).prop_map(|(repository, page)| Route::ListTags { repository, page }),
        (name(), reference())
            .prop_map(|(repository, reference)| Route::GetManifest { repository, reference }),
        (name(), reference())
            .prop_map(|(repository, reference)| Route::HeadManifest { repository, reference }),
        (name(), reference())
            .prop_map(|(repository, reference)| Route::DeleteManifest { repository, reference }),
        (name(), tag()).prop_map(|(repository, tag)| Route::PutManifest {
            repository,
            reference: Reference::Tag(tag),
            tags: vec![],
        }),
        (name(), digest(), distinct_tags()).prop_map(|(repository, digest, tags)| {
            Route::PutManifest { repository, reference: Reference::Digest(digest), tags }
        }),
        (name(), digest()).prop_map(|(repository, digest)| Route::GetBlob { repository, digest }),
        (name(), digest()).prop_map(|(repository, digest)| Route::HeadBlob { repository, digest }),
        (name(), digest())
            .prop_map(|(repository, digest)| Route::DeleteBlob { repository, digest }),
        (name(), digest(), types, proptest::option::of(digest())).prop_map(
            |(repository, subject, types, last)| Route::ListReferrers {
                repository,
                subject,
                artifact_types: types.into_iter().collect(),
                last,
            }
        ),
        (name(), algorithm())
            .prop_map(|(repository, algorithm)| Route::BeginUpload { repository, algorithm }),
        (name(), digest()).prop_map(|(repository, digest)| Route::PushBlob { repository, digest }),
        (name(), digest(), proptest::option::of(name()), algorithm()).prop_map(
            |(repository, digest, from, algorithm)| Route::MountBlob {
                repository,
                digest,
                from,
                algorithm,
            }
        ),
        (name(), id()).prop_map(|(repository, id)| Route::UploadStatus { repository, id }),
        (name(), id()).prop_map(|(repository, id)| Route::AppendUpload { repository, id }),
        (name(), id(), digest()).prop_map(|(repository, id, digest)| Route::FinishUpload {
            repository,
            id,
            digest
        }),
        (name(), id()).prop_map(|(repository, id)| Route::CancelUpload { repository, id }),
    ]
}

/// A parameter that the query of the request has.
type Parameter = (&'static str, String);

fn page_parameters(page: &PageQuery) -> Vec<Parameter> {
    let n = page.n.map(|n| ("n", n.to_string()));
    n.into_iter().chain(page.last.clone().map(|last| ("last", last))).collect()
}

/// What the request for a route looks like: method, path after `/v2`, parameters.
fn request(route: &Route) -> (&'static str, String, Vec<Parameter>) {
    let (method, noun, parameters) = match route {
        Route::Options { .. } | Route::Base => ("GET", String::new(), vec![]),
        Route::Catalog { page } => ("GET", "_catalog".to_owned(), page_parameters(page)),
        Route::ListTags { page, .. } => ("GET", "tags/list".to_owned(), page_parameters(page)),
        Route::GetManifest { reference, .. } => ("GET", format!("manifests/{reference}"), vec![]),
        Route::HeadManifest { reference, .. } => ("HEAD", format!("manifests/{reference}"), vec![]),
        Route::DeleteManifest { reference, .. } => {
            ("DELETE", format!("manifests/{reference}"), vec![])
        }
        Route::PutManifest { reference, tags, .. } => (
            "PUT",
            format!("manifests/{reference}"),
            tags.iter().map(|tag| ("tag", tag.to_string())).collect(),
        ),
        Route::GetBlob { digest, .. } => ("GET", format!("blobs/{digest}"), vec![]),
        Route::HeadBlob { digest, .. } => ("HEAD", format!("blobs/{digest}"), vec![]),
        Route::DeleteBlob { digest, .. } => ("DELETE", format!("blobs/{digest}"), vec![]),
        Route::ListReferrers { subject, artifact_types, last, .. } => {
            let types = artifact_types.iter().map(|text| ("artifactType", text.clone()));
            let last = last.iter().map(|digest| ("last", digest.to_string()));
            ("GET", format!("referrers/{subject}"), types.chain(last).collect())
        }
        Route::BeginUpload { algorithm, .. } => {
            ("POST", "blobs/uploads/".to_owned(), vec![("digest-algorithm", algorithm.to_string())])
        }
        Route::PushBlob { digest, .. } => {
            ("POST", "blobs/uploads".to_owned(), vec![("digest", digest.to_string())])
        }
        Route::MountBlob { digest, from, algorithm, .. } => {
            let from = from.iter().map(|name| ("from", name.to_string()));
            let mut parameters: Vec<_> = from.collect();
            parameters.push(("mount", digest.to_string()));
            parameters.push(("digest-algorithm", algorithm.to_string()));
            ("POST", "blobs/uploads/".to_owned(), parameters)
        }
        Route::UploadStatus { id, .. } => ("GET", format!("blobs/uploads/{id}"), vec![]),
        Route::AppendUpload { id, .. } => ("PATCH", format!("blobs/uploads/{id}"), vec![]),
        Route::CancelUpload { id, .. } => ("DELETE", format!("blobs/uploads/{id}"), vec![]),
        Route::FinishUpload { id, digest, .. } => {
            let digest = vec![("digest", digest.to_string())];
            ("PUT", format!("blobs/uploads/{id}"), digest)
        }
    };
    let path = match route.repository() {
        Some(name) => format!("{name}/{noun}"),
        None => noun,
    };
    (method, path, parameters)
}

/// Percent-encodes the characters that `choose` picks, but no slash.
fn encode_some(path: &str, choose: &[bool]) -> String {
    let mut encoded = String::new();
    for (byte, pick) in path.bytes().zip(choose.iter().cycle()) {
        if *pick && byte != b'/' {
            write!(encoded, "%{byte:02X}").unwrap();
        } else {
            encoded.push(char::from(byte));
        }
    }
    encoded
}

fn piece() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(&[
        "a",
        "b-c",
        "manifests",
        "blobs",
        "uploads",
        "tags",
        "list",
        "referrers",
        "_catalog",
        "v1",
        "A",
        "",
        "..",
        "a__b",
        "%2F",
    ]);
    let end = proptest::sample::select(&[
        "tags/list",
        "manifests/v1",
        "manifests/{d}",
        "blobs/{d}",
        "blobs/uploads/{u}",
        "blobs/uploads/",
        "referrers/{d}",
    ]);
    prop_oneof![
        3 => word.prop_map(str::to_owned),
        2 => end.prop_map(|end| end.replace("{d}", &format!("sha256:{HEX}")).replace("{u}", UUID)),
        1 => "[a-z0-9A-Z._-]{1,6}",
    ]
}

proptest! {
    #[test]
    fn a_route_is_read_back_from_its_request(
        route in route(), choose in proptest::collection::vec(any::<bool>(), 1..40),
        extra in any::<bool>(),
    ) {
        let (method, path, parameters) = request(&route);
        let mut query = form_urlencoded::Serializer::new(String::new());
        if extra {
            query.append_pair("ns", "docker.io");
        }
        for (key, value) in &parameters {
            query.append_pair(key, value);
        }
        let path = format!("/v2/{}", encode_some(&path, &choose));
        prop_assert_eq!(Route::parse(method, &path, Some(&query.finish())), Ok(route));
    }

    #[test]
    fn paths_lead_where_the_grammar_of_the_specification_says(
        pieces in proptest::collection::vec(piece(), 0..5),
    ) {
        let path = format!("/v2/{}", pieces.join("/"));
        let matches: Vec<_> = grammar()
            .iter()
            .filter_map(|(pattern, name)| {
                let captures = pattern.captures(&path)?;
                Some((*name, captures.get(1).map_or("", |name| name.as_str()).to_owned()))
            })
            .collect();
        let found = Route::parse("GET", &path, None).ok();
        let found: Vec<_> =
            found.iter().map(|route| (route.name(), repository(route).to_owned())).collect();
        prop_assert_eq!(found, matches);
    }

    #[test]
    fn no_request_makes_it_panic(
        method in prop_oneof![
            Just("GET".to_owned()), Just("PUT".to_owned()), Just("POST".to_owned()),
            any::<String>(),
        ],
        pieces in proptest::collection::vec(prop_oneof![piece(), any::<String>()], 0..7),
        query in prop_oneof![
            any::<Option<String>>(),
            "((n|last|tag|digest|mount|from|artifactType|digest-algorithm)=[^&]{0,9}&){0,4}"
                .prop_map(Some),
        ],
        base in any::<bool>(),
    ) {
        let path = format!("{}{}", if base { "/v2/" } else { "" }, pieces.join("/"));
        if let Ok(route) = Route::parse(&method, &path, query.as_deref()) {
            prop_assert!(path.starts_with("/v2"));
            prop_assert!(!route.name().is_empty());
        }
    }

    #[test]
    fn queries_are_read_as_forms_are(
        query in prop_oneof!["[a-c=&+%0-9A-F]{0,30}", "([an](=|%3D)[%+a-f0-9]{0,4}&?){0,5}", ".*"],
    ) {
        let expected: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        prop_assert_eq!(parameters(&query).collect::<Vec<_>>(), expected.clone());
        let of_n: Vec<_> =
            expected.into_iter().filter(|(key, _)| key == "n").map(|(_, value)| value).collect();
        prop_assert_eq!(all(&query, "n").collect::<Vec<_>>(), of_n.clone());
        match single(&query, "n") {
            Ok(value) => prop_assert_eq!(value.into_iter().collect::<Vec<_>>(), of_n),
            Err(_) => prop_assert!(of_n.len() > 1),
        }
    }
}
