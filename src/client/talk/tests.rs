//! The talk, heard by nobody: texts in, texts out.
