// Signing in: a key is exchanged for a session, and kept nowhere.
import { useState } from "preact/hooks";
import { type Account, ApiError, write } from "../api";
import { lost, pages, signedIn } from "../live";
import { Field } from "../ui";

export function SignIn() {
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");

  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setWrong("");
    try {
      signedIn(await write<Account>("POST", "/dashboard/session", { key }));
      pages.postMessage("signed in");
    } catch (error) {
      const status = error instanceof ApiError ? error.status : 0;
      setWrong(status === 401 ? "This key does not open anything here." : (error as Error).message);
      setBusy(false);
    }
  };

  return (
    <main class="signin">
      <form onSubmit={submit}>
        <div class="hearth" aria-hidden="true">
          <svg viewBox="0 0 32 32">
            <path d="M16.500 3c.8 5.200-2.300 7.300-4.900 10.700C9.700 16.300 8 18.700 8 22a8 8 0 0 0 8 8 8 8 0 0 0 8-8.200c0-3.600-1.700-6-3.500-8.200-.3 2-1 3.300-2.400 4C18.600 12.200 17.900 6.800 16.500 3Z" />
          </svg>
        </div>
        <h1>Hearth</h1>
        {lost.value ? (
          <p class="muted" role="alert">
            Your session is over, or Hearth was started again. What you were doing is still here: sign in and go on.
          </p>
        ) : (
          <p class="muted">Serverless functions on your own machine, already warm.</p>
        )}
        <Field
          label="Key"
          error={wrong || undefined}
          hint={
            <>
              The first key is in <code>admin.key</code> in the state directory; <code>make -s env</code> shows it.
            </>
          }
        >
          {(attributes) => (
            <input
              {...attributes}
              type="password"
              autocomplete="current-password"
              spellcheck={false}
              autofocus
              required
              value={key}
              onInput={(event) => setKey(event.currentTarget.value)}
            />
          )}
        </Field>
        <button class="primary wide-button" disabled={busy || !key.trim()}>
          {busy ? "Signing in…" : "Sign in"}
        </button>
      </form>
    </main>
  );
}
