//! The macros of `wsforge`, which exports them. What they write names that crate as `::wsforge`.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    DeriveInput, FnArg, ItemFn, Meta, PatType, ReturnType, Signature, Type, parse_macro_input,
};

/// Marks a function as a handler: it is left as it is, and if it cannot be one, the compiler says so here,
/// at the argument or result that is to blame, and not where it is made one.
///
/// Generic functions are not looked at, since what they are is known only where they are used.
///
/// ```ignore
/// #[websocket_handler]
/// async fn echo(message: Message) -> Result<Message> {
///     Ok(message)
/// }
/// ```
#[proc_macro_attribute]
pub fn websocket_handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = Tokens::from(item);
    if !arguments.is_empty() {
        return refuse(&Tokens::from(arguments), "`websocket_handler` takes no arguments");
    }
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.to_compile_error();
            return quote!(#item #error).into();
        }
    };
    let Signature { ident: name, generics, inputs, output, .. } = &function.sig;
    // The lifetimes of a plain function that borrows its message are no trouble.
    if generics.type_params().next().is_some() || generics.const_params().next().is_some() {
        return item.into();
    }
    // Where there is no function, there is nothing to look at.
    let conditions = function.attrs.iter().filter(
        |attribute| matches!(&attribute.meta, Meta::List(list) if list.path.is_ident("cfg")),
    );
    let extracts = inputs.iter().filter_map(|input| match input {
        FnArg::Typed(PatType { ty, .. }) if !matches!(**ty, Type::Reference(_)) => {
            Some(quote_spanned!(ty.span() => ::wsforge::router::__private::extracts::<#ty>();))
        }
        _ => None,
    });
    let responds = match output {
        // What cannot be named here is looked at with the rest.
        ReturnType::Type(_, ty)
            if generics.params.is_empty() && !matches!(**ty, Type::ImplTrait(_)) =>
        {
            Some(quote_spanned!(ty.span() => ::wsforge::router::__private::responds::<#ty>();))
        }
        _ => None,
    };
    let check = quote_spanned! { name.span() =>
        #(#conditions)*
        #[allow(deprecated)]
        const _: fn() = || {
            #(#extracts)*
            #responds
            drop(::wsforge::router::handler(#name));
        };
    };
    quote!(#item #check).into()
}

/// Gives a type that has `Serialize` and `Deserialize` the functions
/// `into_message(&self) -> wsforge::router::Message` and
/// `from_message(wsforge::router::Message) -> wsforge::router::Result<Self>`: its JSON as a text.
#[proc_macro_derive(WebSocketMessage)]
pub fn derive_websocket_message(item: TokenStream) -> TokenStream {
    let DeriveInput { ident, generics, .. } = parse_macro_input!(item as DeriveInput);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        impl #impl_generics #ident #ty_generics #where_clause {
            /// The message that is the JSON of the value.
            ///
            /// # Panics
            ///
            /// If it has no JSON, as a map whose keys are no strings.
            pub fn into_message(&self) -> ::wsforge::router::Message
            where
                Self: ::wsforge::router::__private::Serialize,
            {
                ::wsforge::router::Message::from_json(self)
                    .unwrap_or_else(|error| ::core::panic!("no JSON: {error}"))
            }

            /// Reads the JSON that the message is.
            ///
            /// # Errors
            ///
            /// That it is no text, or not the JSON of such a value.
            pub fn from_message(message: ::wsforge::router::Message) -> ::wsforge::router::Result<Self>
            where
                Self: ::wsforge::router::__private::DeserializeOwned,
            {
                message.json()
            }
        }
    }
    .into()
}

/// Makes a handler of a type with a method
/// `async fn handle(&self, Message, Connection, AppState, Extensions) -> Result<Option<Message>>`.
///
/// An `Arc` of it is what routes take.
#[proc_macro_derive(WebSocketHandler)]
pub fn derive_websocket_handler(item: TokenStream) -> TokenStream {
    let DeriveInput { ident, generics, .. } = parse_macro_input!(item as DeriveInput);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        impl #impl_generics ::wsforge::router::Handler for #ident #ty_generics #where_clause {
            fn call(
                &self,
                _: &::wsforge::router::Received<'_>,
                _: &mut ::wsforge::router::Reply<'_>,
            ) -> ::wsforge::router::Outcome {
                let error = ::wsforge::router::Error::handler("this handler is called by routes only");
                ::wsforge::router::Outcome::Done(::core::result::Result::Err(error))
            }

            fn shared(
                self: ::std::sync::Arc<Self>,
            ) -> ::core::option::Option<::std::sync::Arc<dyn ::wsforge::router::Handler>> {
                ::core::option::Option::Some(::wsforge::router::handler(
                    move |message: ::wsforge::router::Message,
                          connection: ::wsforge::router::Connection,
                          state: ::wsforge::router::AppState,
                          extensions: ::wsforge::router::Extensions| {
                        let this = ::std::sync::Arc::clone(&self);
                        async move { this.handle(message, connection, state, extensions).await }
                    },
                ))
            }
        }
    }
    .into()
}

fn refuse(tokens: &Tokens, why: &str) -> TokenStream {
    syn::Error::new_spanned(tokens, why).to_compile_error().into()
}
