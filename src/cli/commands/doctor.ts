import type { CommandModule } from '../command.js';

export const doctorCommand: CommandModule = {
  define: (command) =>
    command
      .name('doctor')
      .description(
        'show whether this machine can run wanq, and how to mend what it lacks; exit code 4 where it cannot',
      ),
  load: () => import('../actions/doctor.js'),
};
