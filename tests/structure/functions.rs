//! The length of functions.

use crate::source::tokens;

/// The most lines of a function, from its `fn` to its last brace.
pub const LONGEST: usize = 100;

/// Returns each function that is longer than [`LONGEST`]: its line, name and length. `code` is without comments and
/// literals.
pub fn too_long(code: &str) -> Vec<(usize, String, usize)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some(name) = tokens.get(index + 1).filter(|name| token.text == "fn" && name.text != "(") else { continue };
        let mut depth = 0;
        for inner in &tokens[index..] {
            match inner.text {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            // A declaration without a body ends, as a body does, at depth 0.
            if depth < 0 || depth == 0 && [";", "}"].contains(&inner.text) {
                let length = inner.line - token.line + 1;
                if length > LONGEST {
                    found.push((token.line, name.text.to_string(), length));
                }
                break;
            }
        }
    }
    found
}

#[test]
fn samples_of_lengths() {
    let names = |code: &str| too_long(code).into_iter().map(|(line, name, _)| (line, name)).collect::<Vec<_>>();
    let body = |lines: usize| "\n".repeat(lines - 1);
    assert_eq!(names(&format!("fn f() {{{}}}\nfn g() {{}}", body(LONGEST))), []);
    assert_eq!(names(&format!("\nfn f() {{{}}}", body(LONGEST + 1))), [(2, "f".to_string())]);
    assert_eq!(names(&format!("fn f(x: [u8; 2]) -> fn() {{{}}}", body(LONGEST + 1))), [(1, "f".to_string())]);
    let inner = format!("trait T {{ fn f(); fn g() {{ fn h() {{{}}} }} }}", body(LONGEST + 1));
    assert_eq!(names(&inner), [(1, "g".to_string()), (1, "h".to_string())]);
}
