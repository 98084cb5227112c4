/** Runs before anything is drawn: what the script shows otherwise than plain markup is never seen to change. */
export const HEAD_SCRIPT = `document.documentElement.classList.add('js');`;
