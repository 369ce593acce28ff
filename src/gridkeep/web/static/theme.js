// Before the first paint: the theme that was chosen here before. Without a choice the system's is taken.
document.documentElement.dataset.theme = localStorage.getItem("theme") || "";
