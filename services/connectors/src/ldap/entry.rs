//! Search results as they come from the wire, taken apart without trusting the server to send what the protocol says.

use ldap3::ResultEntry;
use ldap3::asn1::{PL, StructureTag, parse_tag};
use ldap3::controls::{Control, ControlType};

/// One entry. Attribute names in lower case; values are bytes until somebody asks for text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dn: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

/// What a search answers with, one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Entry(Entry),
    /// The entries below these URLs are held by another server, and are not followed.
    Referral(Vec<String>),
    /// Something that is neither; it is reported, never skipped.
    Broken(&'static str),
}

impl Found {
    pub(crate) fn from_wire(result: ResultEntry) -> Option<Self> {
        if result.is_intermediate() {
            return None;
        }
        if result.is_ref() {
            return Some(match referral(result.0) {
                Some(urls) => Self::Referral(urls),
                None => Self::Broken("a referral that cannot be read"),
            });
        }
        Some(match Entry::from_tag(result.0) {
            Some(entry) => Self::Entry(entry),
            None => Self::Broken("an entry that cannot be read"),
        })
    }
}

impl Entry {
    /// `SearchResultEntry`, RFC 4511 4.5.2; also the value of a read control, RFC 4527.
    pub(crate) fn from_tag(tag: StructureTag) -> Option<Self> {
        let mut parts = tag.expect_constructed()?.into_iter();
        let dn = text(parts.next()?)?;
        let mut attributes = Vec::new();
        for attribute in parts.next()?.expect_constructed()? {
            let mut parts = attribute.expect_constructed()?.into_iter();
            let name = text(parts.next()?)?.to_ascii_lowercase();
            let values = parts.next()?.expect_constructed()?;
            let values = values.into_iter().map(StructureTag::expect_primitive);
            attributes.push((name, values.collect::<Option<Vec<_>>>()?));
        }
        Some(Self { dn, attributes })
    }

    /// All values of an attribute, as bytes. Attribute options (`;binary`) do not count.
    pub(crate) fn bytes<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let name = name.to_ascii_lowercase();
        self.attributes
            .iter()
            .filter(move |(attribute, _)| *attribute == name)
            .flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }

    /// All values of an attribute that are text.
    pub(crate) fn texts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.bytes(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// The least value of the first attribute that has one: servers keep values in no order, and the answer must not change
    /// from one reading to the next.
    pub(crate) fn first(&self, names: &[String]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.texts(name).filter(|value| !value.is_empty()).min())
    }

    /// Attributes that came in parts (`member;range=0-1499`), which would have to be asked for again.
    pub(crate) fn partial_attribute(&self, name: &str) -> Option<&str> {
        let prefix = format!("{};range=", name.to_ascii_lowercase());
        self.attributes
            .iter()
            .map(|(attribute, _)| attribute.as_str())
            .find(|attribute| attribute.starts_with(&prefix))
    }
}

fn text(tag: StructureTag) -> Option<String> {
    String::from_utf8(tag.expect_primitive()?).ok()
}

fn referral(tag: StructureTag) -> Option<Vec<String>> {
    tag.expect_constructed()?.into_iter().map(text).collect()
}

/// The cookie of a paged-results answer (RFC 2696): empty after the last page, `None` without such an answer.
pub(crate) fn page_cookie(controls: &[Control]) -> Option<Vec<u8>> {
    let value = control_value(controls, |kind| matches!(kind, ControlType::PagedResults))?;
    let (_, tag) = parse_tag(value).ok()?;
    let PL::C(parts) = tag.payload else {
        return None;
    };
    parts.into_iter().nth(1)?.expect_primitive()
}

/// The entry as it stood after the change (RFC 4527).
pub(crate) fn post_read(controls: &[Control]) -> Option<Entry> {
    let value = control_value(controls, |kind| matches!(kind, ControlType::PostReadResp))?;
    let (_, tag) = parse_tag(value).ok()?;
    Entry::from_tag(tag)
}

fn control_value(controls: &[Control], wanted: impl Fn(ControlType) -> bool) -> Option<&[u8]> {
    controls
        .iter()
        .find(|control| control.0.is_some_and(&wanted))
        .and_then(|control| control.1.val.as_deref())
}
