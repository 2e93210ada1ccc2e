mod oracle;
mod walk;

use super::annotations::ANNOTATIONS_MAX;
use super::object::steps;
use super::*;
use crate::oci::Algorithm;
use crate::oci::media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Digest and size of `{}`.
const EMPTY: &str = concat!(
    r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","#,
    r#""size":2"#
);

fn descriptor(media_type: &str, size_bytes: u64) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":{size_bytes}}}"#)
}

fn config() -> String {
    descriptor("application/vnd.oci.image.config.v1+json", 7)
}

fn layer() -> String {
    descriptor("application/vnd.oci.image.layer.v1.tar", 5)
}

/// An OCI image with one layer and further `members`, each with a comma before it.
fn image(members: &str) -> String {
    image_with(&layer(), members)
}

fn image_with(layers: &str, members: &str) -> String {
    let head = format!(r#""schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{}"#, config());
    format!(r#"{{{head},"layers":[{layers}]{members}}}"#)
}

/// An image whose only layer is a descriptor with `members` instead of the usual ones.
fn image_of(members: &str) -> String {
    image_with(&format!("{{{members}}}"), "")
}

fn index_with(children: &str, members: &str) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{children}]{members}}}"#)
}

fn parse_as(content_type: &str, document: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(Some(&MediaType::parse(content_type).unwrap()), document.as_bytes())
}

fn parse(document: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(None, document.as_bytes())
}

#[track_caller]
fn assert_malformed(document: &str, message: &str) {
    match parse_as(OCI_MANIFEST, document) {
        Err(ManifestError::Malformed(text)) => {
            assert!(text.contains(message), "{message:?} is not in {text:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn image_has_config_layers_and_types() {
    let manifest = parse_as(&format!("{OCI_MANIFEST}; charset=utf-8"), &image("")).unwrap();
    assert_eq!((manifest.media_type.as_str(), manifest.kind), (OCI_MANIFEST, ManifestKind::Image));
    let config = manifest.config.as_ref().unwrap();
    assert_eq!((config.size_bytes, config.digest.to_string()), (7, format!("sha256:{HEX}")));
    assert_eq!(manifest.layers.len(), 1);
    assert_eq!(manifest.references().count(), 2);
    assert_eq!(manifest.artifact_type, None);
    assert_eq!(manifest.referrer_type(), Some("application/vnd.oci.image.config.v1+json"));
    let manifest = parse(&image(r#","artifactType":"a/b","x":{"config":1}"#)).unwrap();
    assert_eq!(manifest.referrer_type(), Some("a/b"));
    let manifest = parse(&image(r#","artifactType":"""#)).unwrap();
    assert_eq!((manifest.artifact_type.as_deref(), manifest.config.is_some()), (None, true));
}

#[test]
fn index_has_children_of_any_type_and_platforms() {
    let child = format!(
        r#"{{"mediaType":"text/x","digest":"sha256:{HEX}","size":0,
            "platform":{{"os":"linux","architecture":"arm64","variant":"v8"}},"x":[1]}}"#
    );
    let manifest = parse(&index_with(&format!("{child},{}", layer()), "")).unwrap();
    assert_eq!((manifest.media_type.as_str(), manifest.kind), (OCI_INDEX, ManifestKind::Index));
    let platform = Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() };
    assert_eq!(manifest.children[0].platform.as_deref(), Some(&platform));
    assert_eq!(manifest.children[1].platform, None);
    assert_eq!((manifest.config_type(), manifest.referrer_type()), (None, None));
    let manifest = parse(&index_with("", r#","artifactType":"a/b""#)).unwrap();
    assert_eq!((manifest.children.len(), manifest.referrer_type()), (0, Some("a/b")));
}

#[test]
fn media_type_comes_from_header_or_document_and_never_from_both_differently() {
    let bare = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config());
    assert_eq!(parse(&bare), Err(ManifestError::MediaTypeMissing));
    assert_eq!(parse_as(OCI_MANIFEST, &bare).unwrap().media_type.as_str(), OCI_MANIFEST);
    assert_eq!(parse_as(DOCKER_MANIFEST, &bare), Err(ManifestError::DockerMediaTypeMissing));
    assert_eq!(parse(&image("")).unwrap().media_type.as_str(), OCI_MANIFEST);
    for content_type in [OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST] {
        let error = parse_as(content_type, &image("")).unwrap_err();
        assert!(matches!(error, ManifestError::MediaTypeMismatch { .. }), "{error}");
    }
    for unknown in ["text/plain", "application/json", "application/octet-stream"] {
        let expected = ManifestError::MediaTypeUnknown(unknown.to_owned());
        assert_eq!(parse_as(unknown, &image("")), Err(expected.clone()));
        assert_eq!(parse(&image("").replace(OCI_MANIFEST, unknown)), Err(expected));
    }
    let parameter = image("").replace(OCI_MANIFEST, &format!("{OCI_MANIFEST}; x=y"));
    assert!(matches!(parse(&parameter), Err(ManifestError::MediaTypeUnknown(_))));
    let mismatch = parse_as(OCI_MANIFEST, &parameter);
    assert!(matches!(mismatch, Err(ManifestError::MediaTypeMismatch { .. })));
}

#[test]
fn docker_documents_are_read_as_oci_ones() {
    let manifest = parse(&image("").replace(OCI_MANIFEST, DOCKER_MANIFEST)).unwrap();
    assert_eq!(manifest.kind, ManifestKind::Image);
    let list = index_with(&layer(), "").replace(OCI_INDEX, DOCKER_LIST);
    assert_eq!(parse_as(DOCKER_LIST, &list).unwrap().kind, ManifestKind::Index);
}

#[test]
fn schema_1_is_refused_by_name() {
    let document = r#"{"schemaVersion":1,"name":"a","tag":"b","architecture":"amd64",
        "fsLayers":[{"blobSum":"sha256:x"}],"history":[],"signatures":[]}"#;
    assert_eq!(parse(document), Err(ManifestError::Schema1));
    assert_eq!(parse_as(OCI_MANIFEST, document), Err(ManifestError::Schema1));
    for version in ["v1+json", "v1+prettyjws"] {
        let content_type = format!("application/vnd.docker.distribution.manifest.{version}");
        assert_eq!(parse_as(&content_type, "anything"), Err(ManifestError::Schema1));
    }
}

#[test]
fn what_is_no_json_object_is_refused() {
    for (document, message) in [
        ("", "EOF"),
        ("hello", "expected value"),
        ("null", "expected an object"),
        ("[]", "expected an object"),
        ("[2]", "expected an object"),
        ("\"x\"", "expected an object"),
        ("5", "expected an object"),
        ("{", "EOF"),
        ("\u{feff}{}", "expected value"),
        ("{\0}\0", "key must be a string"),
        ("{'a':1}", "key must be a string"),
        ("{\"a\":NaN}", "expected value"),
        ("{\"a\":1,}", "trailing comma"),
        ("{\"a\":01}", "invalid number"),
        ("{\"a\":\"\n\"}", "control character"),
    ] {
        assert_malformed(document, message);
    }
    for bytes in [b"\xff\xfe{\0}\0".as_slice(), b"\xfe\xff\0{\0}", b"{\"a\":\"\xff\"}"] {
        assert_eq!(Manifest::parse(None, bytes), Err(ManifestError::NotUtf8));
    }
    for trailing in ["{}", "x", "]", "\0", ",", &image("")] {
        assert_malformed(&format!("{}{trailing}", image("")), "trailing characters");
    }
    assert!(parse(&format!(" \n{}\r\n\t", image(""))).is_ok());
}

#[test]
fn nesting_is_bounded_everywhere() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let levels = NESTING_MAX as usize - 1;
    assert!(parse(&image(&format!(r#","x":{}"#, nested(levels)))).is_ok());
    let deep = image(&format!(r#","x":{}"#, nested(levels + 1)));
    assert_eq!(parse(&deep), Err(ManifestError::TooDeep));
    let unterminated = format!("{{\"annotations\":{}", "[".repeat(50_000));
    assert_eq!(parse(&unterminated), Err(ManifestError::TooDeep));
    let objects = format!("{{\"config\":{}", "{\"a\":".repeat(1_000_000));
    assert_eq!(parse(&objects), Err(ManifestError::TooDeep));
    let text = format!(r#","x":"\"{}\\","y":"{}""#, "[".repeat(500), "{".repeat(500));
    assert!(parse(&image(&text)).is_ok(), "brackets in texts do not nest");
}

#[test]
fn documents_of_two_kinds_are_refused() {
    let child = layer();
    for members in [",\"manifests\":[]".to_owned(), format!(",\"manifests\":[{child}]")] {
        assert_eq!(parse(&image(&members)), Err(ManifestError::Ambiguous("manifests")));
    }
    for (name, value) in [("config", config()), ("layers", "[]".to_owned())] {
        let document = index_with(&child, &format!(r#","{name}":{value}"#));
        assert_eq!(parse(&document), Err(ManifestError::Ambiguous(name)));
    }
    for document in [image(",\"fsLayers\":[]"), index_with("", ",\"fsLayers\":null")] {
        assert_eq!(parse(&document), Err(ManifestError::Ambiguous("fsLayers")));
    }
    assert_malformed(&image(",\"manifests\":null"), "manifests: invalid type: null");
}

#[test]
fn members_that_a_kind_needs_are_required() {
    let head = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}""#);
    let without_config = format!(r#"{head},"layers":[]}}"#);
    assert_eq!(parse(&without_config), Err(ManifestError::Missing("config")));
    let without_layers = format!(r#"{head},"config":{}}}"#, config());
    assert_eq!(parse(&without_layers), Err(ManifestError::Missing("layers")));
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}"}}"#);
    assert_eq!(parse(&index), Err(ManifestError::Missing("manifests")));
    assert_eq!(parse("{}"), Err(ManifestError::Missing("schemaVersion")));
    for (members, message) in [
        (r#""config":null,"layers":[]"#, "config: invalid type: null"),
        (r#""config":[],"layers":[]"#, "config: invalid type: sequence"),
        (r#""config":{},"layers":[]"#, "config: \"mediaType\" is missing"),
        (r#""layers":{}"#, "layers: invalid type: map"),
        (r#""layers":null"#, "layers: invalid type: null"),
        (r#""layers":[null]"#, "layers: 0: invalid type: null"),
        (r#""layers":[["a/b","sha256:0",1]]"#, "layers: 0: invalid type: sequence"),
    ] {
        assert_malformed(&format!("{{\"schemaVersion\":2,{members}}}"), message);
    }
}

#[test]
fn schema_version_is_the_number_two() {
    for version in ["3", "0", "20"] {
        let document = image("").replace(":2,", &format!(":{version},"));
        assert_eq!(parse(&document), Err(ManifestError::SchemaVersion), "{version}");
    }
    for version in ["\"2\"", "2.0", "2e0", "-2", "null", "[2]", "true", "1e999"] {
        let document = image("").replace(":2,", &format!(":{version},"));
        assert_malformed(&document, "schemaVersion: ");
    }
}

#[test]
fn members_that_parsers_read_differently_are_refused() {
    for (members, message) in [
        (r#","layers":[]"#, "member \"layers\" occurs twice"),
        (r#","l\u0061yers":[]"#, "member \"layers\" occurs twice"),
        (r#","schemaVersion":2"#, "occurs twice"),
        (r#","Layers":[]"#, "member \"Layers\" differs from \"layers\" only by its case"),
        (r#","MANIFESTS":[]"#, "only by its case"),
        (",\"manife\u{17f}ts\":[]", "only by its case"),
        (r#","annotations":{"a":"1","a":"2"}"#, "annotations: a name occurs twice"),
    ] {
        assert_malformed(&image(members), message);
    }
    let twice = r#""mediaType":"a/b","digest":"sha256:0","size":1,"size":2"#;
    assert_malformed(&image_of(twice), "layers: 0: member \"size\" occurs twice");
    assert!(parse(&image(r#","x":1,"x":2"#)).is_ok(), "others are nobody's business");
}

#[test]
fn descriptors_need_type_digest_and_size() {
    let digest = format!(r#""digest":"sha256:{HEX}""#);
    let upper = HEX.to_uppercase();
    for (members, message) in [
        (format!(r#"{digest},"size":5"#), "\"mediaType\" is missing"),
        (r#""mediaType":"a/b","size":5"#.to_owned(), "\"digest\" is missing"),
        (format!(r#""mediaType":"a/b",{digest}"#), "\"size\" is missing"),
        (format!(r#""mediaType":"",{digest},"size":5"#), "\"mediaType\": a media type"),
        (format!(r#""mediaType":"ab",{digest},"size":5"#), "\"mediaType\": a media type"),
        // In a document a type has no parameters, and nothing of it is dropped.
        (format!(r#""mediaType":"a/b;c=d",{digest},"size":5"#), "\"mediaType\": a media type"),
        (format!(r#""mediaType":" a/b",{digest},"size":5"#), "\"mediaType\": a media type"),
        (format!(r#""mediaType":null,{digest},"size":5"#), "mediaType: invalid type: null"),
        (r#""mediaType":"a/b","digest":"sha256:zz","size":1"#.to_owned(), "\"digest\": a digest"),
        (
            format!(r#""mediaType":"a/b","digest":"sha256:{upper}","size":1"#),
            "\"digest\": a digest",
        ),
        (format!(r#""mediaType":"a/b","digest":"{HEX}","size":1"#), "\"digest\": a digest"),
        (r#""mediaType":"a/b","digest":{"a":1},"size":1"#.to_owned(), "digest: invalid type: map"),
        (r#""mediaType":"a/b","digest":"","size":1"#.to_owned(), "\"digest\": a digest"),
        (r#""mediaType":"a/b","digest":"sha256:../../x","size":1"#.to_owned(), "\"digest\": a"),
    ] {
        assert_malformed(&image_of(&members), &format!("layers: 0: {message}"));
    }
}

#[test]
fn sizes_are_integers_of_63_bits() {
    let sized = |size: &str| {
        image_of(&format!(r#""mediaType":"a/b","digest":"sha256:{HEX}","size":{size}"#))
    };
    for size in [
        "-1",
        "-0",
        "\"5\"",
        "1.5",
        "5.0",
        "1e2",
        "1e999",
        "null",
        "true",
        "[]",
        "18446744073709551616",
        "-9223372036854775808",
        "0x5",
        "05",
    ] {
        assert_malformed(&sized(size), "");
    }
    assert_malformed(&sized("9223372036854775808"), "\"size\" is above the largest");
    for (size, expected) in [("0", 0), ("9223372036854775807", i64::MAX.cast_unsigned())] {
        assert_eq!(parse(&sized(size)).unwrap().layers[0].size_bytes, expected);
    }
}

#[test]
fn unregistered_digests_are_legal_in_descriptors_and_never_known() {
    let md5 = r#""mediaType":"a/b","digest":"md5:5d41402abc4b2a76b9719d911017c592","size":5"#;
    let manifest = parse(&image_of(md5)).unwrap();
    assert_eq!(manifest.layers[0].digest.known(), None);
    assert_eq!(manifest.layers[0].digest.to_string(), "md5:5d41402abc4b2a76b9719d911017c592");
    let manifest = parse(&image(&format!(r#","subject":{{{md5}}}"#))).unwrap();
    assert_eq!(manifest.subject, None);
}

#[test]
fn embedded_data_is_the_content() {
    let with = |members: &str| image_of(&format!(r#""mediaType":"a/b",{members}"#));
    assert!(parse(&with(&format!(r#"{EMPTY},"data":"e30=""#))).is_ok());
    assert!(parse(&with(&format!(r#""data":"e30=",{EMPTY}"#))).is_ok());
    assert!(parse(&with(&format!(r#""size":0,"data":"","digest":"sha256:{HEX}""#))).is_ok());
    for algorithm in Algorithm::ALL {
        let digest = Digest::of(algorithm, b"{}");
        let members = |data: &str| format!(r#""digest":"{digest}","size":2,"data":"{data}""#);
        assert!(parse(&with(&members("e30="))).is_ok(), "{algorithm}");
        assert_malformed(&with(&members("e31=")), "\"data\" is not");
        assert_malformed(&with(&members("AAAA")), "\"data\" is not the content");
    }
    for data in ["e30", "e30=\\n", "e3 0=", "e30==", "-_8=", "\u{e4}"] {
        let document = with(&format!(r#"{EMPTY},"data":"{data}""#));
        assert_malformed(&document, "\"data\" is not base64");
    }
    assert_malformed(&with(&format!(r#"{EMPTY},"data":5"#)), "data: invalid type");
    assert_malformed(&with(&format!(r#"{EMPTY},"data":"""#)), "\"data\" is not the content");
    let md5 = r#""digest":"md5:0","size":3,"data":"e30=""#;
    assert_malformed(&with(md5), "\"data\" is not the content");
}

#[test]
fn subject_is_a_descriptor() {
    let manifest = parse(&image(&format!(r#","subject":{}"#, layer()))).unwrap();
    assert_eq!(manifest.subject, Digest::parse(&format!("sha256:{HEX}")).ok());
    let manifest = parse(&index_with("", &format!(r#","subject":{}"#, layer()))).unwrap();
    assert!(manifest.subject.is_some());
    for (subject, message) in [
        (format!("\"sha256:{HEX}\""), "invalid type: string"),
        ("{}".to_owned(), "\"mediaType\" is missing"),
        ("[]".to_owned(), "invalid type: sequence"),
        (format!("[{}]", layer()), "invalid type: sequence"),
        (descriptor("a/b", 1).replace("sha256", "SHA256"), "\"digest\": a digest"),
    ] {
        assert_malformed(
            &image(&format!(r#","subject":{subject}"#)),
            &format!("subject: {message}"),
        );
    }
}

#[test]
fn annotations_are_texts() {
    let manifest = parse(&image(r#","annotations":{"b":"1","a":"\u00e4"}"#)).unwrap();
    assert_eq!(manifest.annotations["a"], "\u{e4}");
    for value in ["{\"a\":1}", "{\"a\":null}", "{\"a\":{}}", "[]", "\"a\"", "5", "{\"a\":[\"b\"]}"]
    {
        assert_malformed(&image(&format!(r#","annotations":{value}"#)), "annotations: ");
        let layer = format!(r#""mediaType":"a/b",{EMPTY},"annotations":{value}"#);
        assert_malformed(&image_of(&layer), "layers: 0: annotations: ");
    }
    for member in ["annotations", "subject", "artifactType"] {
        assert!(parse(&image(&format!(r#","{member}":null"#))).is_ok(), "{member}");
    }
    let key = "k".repeat(1_000_000);
    let manifest = parse(&image(&format!(r#","annotations":{{"{key}":"v"}}"#))).unwrap();
    assert_eq!(manifest.annotations[&key], "v");
}

#[test]
fn urls_and_foreign_types_say_that_content_may_be_elsewhere() {
    let with = |media_type: &str, urls: &str| {
        let layer = format!(r#""mediaType":"{media_type}",{EMPTY}{urls}"#);
        parse(&image_of(&layer)).map(|manifest| manifest.layers[0].clone())
    };
    let urls = r#","urls":["http://a/x","file:///etc/passwd"]"#;
    let layer = with("a/b", urls).unwrap();
    assert_eq!(layer.urls().collect::<Vec<_>>(), ["http://a/x", "file:///etc/passwd"]);
    assert!(layer.may_be_elsewhere() && !layer.is_foreign());
    for urls in ["", r#","urls":[]"#, r#","urls":null"#] {
        let layer = with("application/vnd.oci.image.layer.v1.tar+gzip", urls).unwrap();
        assert!(!layer.may_be_elsewhere() && layer.urls().next().is_none());
    }
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        assert!(with(media_type, "").unwrap().is_foreign(), "{media_type}");
    }
    for urls in [r#""http://a""#, "{}", "[1]", "[null]", r#"[""]"#, r#"["a b"]"#, r#"["a\nb"]"#] {
        let document = image_of(&format!(r#""mediaType":"a/b",{EMPTY},"urls":{urls}"#));
        assert_malformed(&document, "layers: 0: urls: ");
    }
}

#[test]
fn platforms_are_objects_of_texts() {
    let with = |platform: &str| {
        let child = format!(r#"{{"mediaType":"a/b",{EMPTY},"platform":{platform}}}"#);
        parse(&index_with(&child, "")).map(|manifest| manifest.children[0].platform.clone())
    };
    assert_eq!(with("{}"), Ok(Some(Box::default())));
    assert_eq!(with("null"), Ok(None));
    for platform in [r#"["linux","amd64"]"#, r#""linux/amd64""#, r#"{"os":1}"#, r#"{"os":null}"#] {
        assert!(matches!(with(platform), Err(ManifestError::Malformed(_))), "{platform}");
    }
}

#[test]
fn errors_repeat_little_of_the_document() {
    let long = "\u{e4}".repeat(500_000);
    for document in [
        image(&format!(r#","subject":"{long}""#)),
        image("").replace(OCI_MANIFEST, &long),
        image(&format!(r#","{long}":1"#)).replace(r#""layers""#, r#""annotations""#),
    ] {
        for error in [parse(&document).unwrap_err(), parse_as(OCI_INDEX, &document).unwrap_err()] {
            assert!(
                error.to_string().len() < 3 * EXCERPT_LENGTH_MAX,
                "{}",
                error.to_string().len()
            );
        }
    }
}

#[test]
fn work_is_linear_in_layers_children_and_annotations() {
    let steps = |document: &str| {
        assert!(document.len() < 4 << 20);
        steps::take();
        parse(document).unwrap();
        steps::take()
    };
    let list = |count: usize| vec![layer(); count].join(",");
    let layers = |count| steps(&image_with(&list(count), ""));
    let children = |count| steps(&index_with(&list(count), ""));
    let annotations = |count: usize| {
        let entries: Vec<_> = (0..count).map(|index| format!(r#""{index}":"""#)).collect();
        steps(&image(&format!(r#","annotations":{{{}}}"#, entries.join(","))))
    };
    let others = |count: usize| {
        let members: String = (0..count).map(|index| format!(r#","{index}":0"#)).collect();
        steps(&image(&members))
    };
    // One step for each member: three of a descriptor.
    assert_eq!(layers(20_000) - layers(10_000), 3 * 10_000);
    assert_eq!(children(10_000) - children(1), 3 * 9_999);
    assert_eq!(annotations(ANNOTATIONS_MAX) - annotations(1), ANNOTATIONS_MAX as u64 - 1);
    assert_eq!(others(300_000) - others(1), 299_999);
}

#[test]
fn annotations_are_bounded_in_number() {
    let entries: Vec<_> = (0..=ANNOTATIONS_MAX).map(|index| format!(r#""{index}":"""#)).collect();
    let document = image(&format!(r#","annotations":{{{}}}"#, entries.join(",")));
    assert_malformed(&document, "more than 65536 annotations");
}
