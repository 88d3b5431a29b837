//! The contract in `wit/`, as Rust types. Generated, and used nowhere outside of [`super`].
//!
//! The three worlds are bound at once, through a world of our own that exports all three hooks. No component implements
//! it: each hook's part is looked up by itself. So the types that the hooks share exist once.

#![allow(missing_docs, unreachable_pub, reason = "generated; the documentation is in wit/")]

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package antimony:host;

        world hooks {
            import antimony:plugin/logging@0.1.0;
            export antimony:plugin/lifecycle@0.1.0;
            export antimony:plugin/validator@0.1.0;
            export antimony:plugin/policy@0.1.0;
            export antimony:plugin/formatter@0.1.0;
        }
    ",
    world: "antimony:host/hooks",
    imports: { default: trappable },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
