//! Bounds on the text of conditions, kept before the library sees it.
//!
//! The library's conversions and its destructors call themselves once a level of an expression, and a chain such as `a && b && c`
//! has a level a link. Only its evaluator looks at how much stack is left. So the depth is bounded by what can make some, and the
//! text is read on a stack that bears many times as much.

use std::thread;

/// Most operators, brackets and words of one policy that can make an expression deeper.
const DEPTH_MAX: usize = 250;
/// Stack for reading; the bound needs less than a tenth of it.
const STACK_BYTES: usize = 32 << 20;

/// Words that take an operand.
const WORDS: [&str; 7] = ["if", "then", "else", "in", "has", "like", "is"];

/// Refuses a text with a policy that could be too deep.
pub(super) fn check(text: &str) -> Result<(), String> {
    let (mut depth, mut line) = (0_usize, 1_usize);
    let mut rest = text.chars().peekable();
    let mut word = String::new();
    while let Some(one) = rest.next() {
        if one.is_ascii_alphanumeric() || one == '_' {
            word.push(one);
            continue;
        }
        depth += usize::from(WORDS.contains(&word.as_str()));
        word.clear();
        match one {
            '"' => skip_string(&mut rest, &mut line),
            '/' if rest.peek() == Some(&'/') => {
                while rest.next_if(|&next| next != '\n').is_some() {}
            }
            '\n' => line += 1,
            ';' => depth = 0,
            // A list is one level, however long; a colon names a type or an attribute.
            ',' | ':' | ')' | ']' | '}' | '@' => {}
            other if other.is_whitespace() => {}
            _ => depth += 1,
        }
        if depth > DEPTH_MAX {
            return Err(format!(
                "line {line}: a policy has at most {DEPTH_MAX} operators and brackets; split it"
            ));
        }
    }
    Ok(())
}

fn skip_string(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, line: &mut usize) {
    while let Some(one) = rest.next() {
        match one {
            '\\' => {
                rest.next();
            }
            '\n' => *line += 1,
            '"' => return,
            _ => {}
        }
    }
}

/// Runs work on a thread of its own with room for deep expressions.
pub(super) fn on_a_deep_stack<T: Send>(
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("cannot be read now: {error}"))?;
        thread
            .join()
            .unwrap_or_else(|_| Err("cannot be read".to_owned()))
    })
}
