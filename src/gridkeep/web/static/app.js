// The page’s behaviour comes here.
