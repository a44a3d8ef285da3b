//! The hub under test: fake clients, a store whose answers come when the test says so, and a model of a client that
//! knows only its own input.

mod clients;
mod delivery;
mod joining;
mod lagging;
mod memory;
mod outside;
mod pace;
mod presence;
mod properties;
mod removal;
mod sessions;
mod world;
