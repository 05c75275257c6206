// Runs before the first paint, so that a chosen theme never flashes the other one. The only script that is not a module.
try {
  const theme = localStorage.getItem('lockstep-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's choice stands.
}
