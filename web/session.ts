/**
 * The page that asks for the token. It says no more about a wrong one than that it is wrong; what is typed stays in a password
 * field and is given to nobody but the server.
 */
import { sentenceOf, submitToken } from './api.ts';
import { element, setText } from './dom.ts';

/** A form that calls back once the server has accepted a token. */
export function tokenPage(onAccepted: () => void): HTMLElement {
  const input = element('input', {
    id: 'token',
    attributes: { type: 'password', autocomplete: 'current-password', required: '', spellcheck: 'false' },
  });
  const said = element('p', { class: 'said', id: 'token-said', attributes: { role: 'alert' } });
  input.setAttribute('aria-describedby', 'token-said');
  const button = element('button', { class: 'primary', text: 'Open the dashboard' });
  const submit = async () => {
    button.disabled = true;
    try {
      if (await submitToken(input.value.trim())) {
        onAccepted();
        return;
      }
      setText(said, 'This token is not accepted.');
      input.setAttribute('aria-invalid', 'true');
      input.select();
    } catch (error) {
      setText(said, sentenceOf(error));
    } finally {
      button.disabled = false;
    }
  };
  const form = element(
    'form',
    {
      class: 'panel token-form',
      on: {
        submit: (event) => {
          event.preventDefault();
          void submit();
        },
      },
    },
    element('h1', { text: 'This dashboard needs a token' }),
    element('p', {
      class: 'muted',
      text: 'It is the value of LOCKSTEP_DASHBOARD_TOKEN where the dashboard was started, or else was printed there.',
    }),
    element('label', { text: 'Token', attributes: { for: 'token' } }),
    input,
    said,
    button,
  );
  queueMicrotask(() => input.focus());
  return form;
}
