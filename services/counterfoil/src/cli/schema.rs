//! Flags and help of a command, read from the method's descriptor: the protos' comments are the client's manual.

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, Command};
use prost_reflect::{
    DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage as _,
};

use super::commands::Spec;

/// One field of a request that a flag or a position sets.
#[derive(Debug, Clone)]
pub(super) struct Flag {
    /// Path of the field in the request: `["policy", "val_required"]`.
    pub(super) path: Vec<String>,
    /// The field itself.
    pub(super) field: FieldDescriptor,
    /// Its comment.
    pub(super) help: String,
}

impl Flag {
    /// Name of the flag, without dashes in front.
    pub(super) fn name(&self) -> String {
        self.path
            .last()
            .map(|last| last.replace('_', "-"))
            .unwrap_or_default()
    }
}

/// The descriptors of the whole API.
pub(super) fn pool() -> anyhow::Result<DescriptorPool> {
    DescriptorPool::decode(counterfoil_proto::DESCRIPTOR_SET)
        .context("the descriptor set in this executable is damaged")
}

/// The method that a command calls.
pub(super) fn method(pool: &DescriptorPool, spec: &Spec) -> anyhow::Result<MethodDescriptor> {
    let (service, name) = spec
        .method
        .split_once('/')
        .context("a command names no method")?;
    let (package, service) = service
        .split_once('.')
        .context("a command names no package")?;
    let full = format!("counterfoil.{package}.v1.{service}");
    let Some(service) = pool.get_service_by_name(&full) else {
        bail!("the API has no service {full}");
    };
    let found = service.methods().find(|method| method.name() == name);
    found.with_context(|| format!("{full} has no method {name}"))
}

/// Fields of a request as flags: scalars as they are, one level of nested messages flattened, what is output only left out.
pub(super) fn flags(request: &MessageDescriptor) -> Vec<Flag> {
    let mut flags = Vec::new();
    for field in request.fields() {
        match flattened(&field) {
            Some(nested) => {
                for inner in nested.fields() {
                    let help = comment_of(&inner);
                    if !help.starts_with("Output only") {
                        let path = vec![field.name().to_owned(), inner.name().to_owned()];
                        flags.push(Flag {
                            path,
                            field: inner,
                            help,
                        });
                    }
                }
            }
            None => flags.push(Flag {
                path: vec![field.name().to_owned()],
                help: comment_of(&field),
                field,
            }),
        }
    }
    // Two fields of one name: the outer one keeps it.
    let mut seen = std::collections::HashSet::new();
    flags.sort_by_key(|flag| flag.path.len());
    flags.retain(|flag| seen.insert(flag.name()));
    flags
}

fn flattened(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message)
            if !field.is_list() && !message.full_name().starts_with("google.protobuf.") =>
        {
            Some(message)
        }
        _ => None,
    }
}

/// The clap command of a spec.
pub(super) fn command(pool: &DescriptorPool, spec: &Spec) -> anyhow::Result<Command> {
    let method = method(pool, spec)?;
    let mut command = Command::new(spec.verb)
        .about(comment_of_method(&method))
        // With --tenant, the one position given is the one that is required.
        .allow_missing_positional(true);
    let flags = flags(&method.input());
    for (position, (path, collection)) in spec.positional.iter().enumerate() {
        let flag = flags
            .iter()
            .find(|flag| flag.path.join(".") == *path)
            .with_context(|| format!("{} has no field {path}", spec.method))?;
        let help = if collection.is_empty() || *collection == "tenants" {
            flag.help.clone()
        } else {
            format!("{} The id alone will do.", flag.help)
        };
        command = command.arg(
            Arg::new(flag.name())
                .value_name(flag.name().to_uppercase())
                .help(help)
                .index(position + 1)
                // The tenant may come from the global --tenant instead.
                .required(*collection != "tenants" || *path == "name"),
        );
    }
    for flag in &flags {
        if spec
            .positional
            .iter()
            .any(|(path, _)| *path == flag.path.join("."))
        {
            continue;
        }
        command = command.arg(argument(flag));
    }
    Ok(command)
}

fn argument(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name())
        .long(flag.name())
        .help(flag.help.clone());
    match flag.field.kind() {
        Kind::Bool => arg.action(ArgAction::SetTrue),
        kind => {
            let arg = arg.value_name(value_name(&kind)).allow_hyphen_values(true);
            if flag.field.is_list() {
                arg.action(ArgAction::Append)
            } else {
                arg.action(ArgAction::Set)
            }
        }
    }
}

fn value_name(kind: &Kind) -> String {
    match kind {
        Kind::String => "TEXT".to_owned(),
        Kind::Bytes => "HEX".to_owned(),
        Kind::Enum(descriptor) => short_values(descriptor).join("|"),
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            "TIME|+DURATION".to_owned()
        }
        Kind::Message(_) => "JSON".to_owned(),
        _ => "NUMBER".to_owned(),
    }
}

/// Names of an enum's values without the prefix they share.
pub(super) fn short_values(descriptor: &prost_reflect::EnumDescriptor) -> Vec<String> {
    let prefix = descriptor
        .values()
        .find(|value| value.number() == 0)
        .and_then(|zero| zero.name().strip_suffix("UNSPECIFIED").map(str::to_owned))
        .unwrap_or_default();
    descriptor
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| {
            value
                .name()
                .strip_prefix(&prefix)
                .unwrap_or(value.name())
                .to_owned()
        })
        .collect()
}

fn comment_of(field: &FieldDescriptor) -> String {
    comment(&field.parent_file(), field.path())
}

fn comment_of_method(method: &MethodDescriptor) -> String {
    comment(&method.parent_file(), method.path())
}

fn comment(file: &prost_reflect::FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    info.and_then(|info| info.location.iter().find(|place| place.path == path))
        .map(|place| {
            place
                .leading_comments()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .unwrap_or_default()
}

/// Whether a message's own name shows it is a wrapper that only carries a list and a page token.
pub(super) fn list_field(message: &prost_reflect::DynamicMessage) -> Option<FieldDescriptor> {
    message
        .descriptor()
        .fields()
        .find(|field| field.is_list() && matches!(field.kind(), Kind::Message(_)))
}
