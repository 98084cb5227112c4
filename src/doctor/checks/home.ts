import type { Check } from '../finding.js';

export const homeCheck: Check = {
  name: 'home folder',
  look: async ({ env }) => {
    const home = env.HOME ?? env.USERPROFILE;
    return [{ status: 'ok', seen: home ? `${home}; wanq writes nothing there` : 'not set; wanq does without' }];
  },
};
