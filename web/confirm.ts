/**
 * Asks before something is done that others will notice. The browser's own dialog element keeps the focus inside, closes on
 * Escape and gives the focus back; the safe answer is the one that has the focus at first.
 */
import { element } from './dom.ts';

export interface Question {
  readonly title: string;
  readonly text: readonly string[];
  /** What the button says that does it: a verb, never "OK". */
  readonly confirm: string;
  readonly isDangerous: boolean;
}

/** Resolves with true only when the confirming button was pressed. */
export function askToConfirm({ title, text, confirm, isDangerous }: Question): Promise<boolean> {
  return new Promise((resolve) => {
    const form = element(
      'form',
      { attributes: { method: 'dialog' } },
      element('h2', { id: 'question-title', text: title }),
      ...text.map((line) => element('p', { text: line })),
      element(
        'div',
        { class: 'dialog-buttons' },
        element('button', { text: 'Cancel', attributes: { value: 'cancel', autofocus: '' } }),
        element('button', {
          class: isDangerous ? 'danger' : 'primary',
          text: confirm,
          attributes: { value: 'confirm' },
        }),
      ),
    );
    const dialog = element('dialog', { attributes: { 'aria-labelledby': 'question-title' } }, form);
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'confirm');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
