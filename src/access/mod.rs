//! Who may do what: identities and their grants, the doors through which they come in, and one table of the right that
//! each operation needs. It is asked once for each request, never for a delivery, and knows no socket and no room's
//! members.

mod doors;
mod file;
mod identity;
mod operation;

pub use doors::{Credential, Doors};
pub use file::{LONGEST_FILE, Person, people};
pub use identity::{Door, Grants, Identity, Sub, Who};
pub use operation::{Denied, Operation};
